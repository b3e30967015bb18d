/* The kernels of kernels.hip for the CPU, as the library of our own kernels gives them out; work-items one after the other. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

const char *gemma_emulated_kernels(void) { return "scale\nfill\nreverse"; }

static int refuse(char *message, size_t bytes, const char *words) {
    snprintf(message, bytes, "%s", words);
    return 1;
}

int gemma_emulated_launch(const char *kernel, const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic_shared_bytes,
                          const void *arguments, size_t argument_bytes, uint64_t seed, char *message,
                          size_t message_bytes) {
    const int items = (int)(grid[0] * block[0]);
    (void)dynamic_shared_bytes;
    (void)seed;
    if (strcmp(kernel, "scale") == 0) {
        struct { const float *from; float *to; int count; float factor; } x;
        if (argument_bytes != sizeof x) return refuse(message, message_bytes, "scale has 24 bytes of arguments");
        memcpy(&x, arguments, sizeof x);
        if (x.count < 0) return refuse(message, message_bytes, "a count below zero");
        for (int i = 0; i < items && i < x.count; ++i) x.to[i] = x.from[i] * x.factor;
        return 0;
    }
    if (strcmp(kernel, "fill") == 0) {
        struct { float *to; int count; float value; } x;
        if (argument_bytes != sizeof x) return refuse(message, message_bytes, "fill has 16 bytes of arguments");
        memcpy(&x, arguments, sizeof x);
        for (int i = 0; i < items && i < x.count; ++i) x.to[i] = x.value;
        return 0;
    }
    if (strcmp(kernel, "reverse") == 0) {
        float *values;
        memcpy(&values, arguments, sizeof values);
        for (int i = 0; i < 16; ++i) {
            const float other = values[31 - i];
            values[31 - i] = values[i];
            values[i] = other;
        }
        return 0;
    }
    return refuse(message, message_bytes, "no such kernel");
}
