// A process that runs kernels on request: the tests' way to the emulation under sanitizers.
//
// Requests come on standard input, answers go to standard output, both in little-endian binary (see `Request`). Buffers are
// allocations of their own, so that a sanitizer catches whoever reads or writes beside one; it ends the process then, with
// the launch named on standard error.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "block.h"

extern "C" int gemma_emulated_launch(const char*, const uint32_t*, const uint32_t*, uint32_t, const void*, size_t, uint64_t,
                                     char*, size_t);

namespace {

constexpr uint64_t MOST_BYTES = 1ULL << 30;

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Bytes = std::unique_ptr<char, Free>;

struct Buffer {
    Bytes memory;
    uint64_t bytes = 0;
};

// Where an argument is the address of a buffer.
struct Address {
    uint32_t offset;
    uint32_t buffer;
    uint64_t add;
};

// In this order: name, grid, block, seed, arguments, addresses, buffers. What has no fixed size has its count before it.
struct Request {
    std::string kernel;
    uint32_t grid[3];
    uint32_t block[3];
    uint64_t seed;
    std::vector<char> arguments;
    std::vector<Address> addresses;
    std::vector<Buffer> buffers;
};

void read(void* place, size_t bytes) {
    if (bytes > 0 && std::fread(place, 1, bytes, stdin) != bytes) std::exit(bytes == 0 ? 0 : 3);
}

uint64_t read_count() {
    uint64_t count;
    read(&count, sizeof count);
    if (count > MOST_BYTES) std::exit(3);
    return count;
}

Request read_request(uint64_t name_bytes) {
    Request request;
    if (name_bytes > MOST_BYTES) std::exit(3);
    request.kernel.resize(name_bytes);
    read(request.kernel.data(), name_bytes);
    read(request.grid, sizeof request.grid);
    read(request.block, sizeof request.block);
    read(&request.seed, sizeof request.seed);
    request.arguments.resize(read_count());
    read(request.arguments.data(), request.arguments.size());
    request.addresses.resize(read_count());
    read(request.addresses.data(), request.addresses.size() * sizeof(Address));
    request.buffers.resize(read_count());
    for (Buffer& buffer : request.buffers) {
        buffer.bytes = read_count();
        buffer.memory = Bytes(static_cast<char*>(std::malloc(buffer.bytes)));
        read(buffer.memory.get(), buffer.bytes);
    }
    for (const Address& address : request.addresses) {
        if (address.buffer >= request.buffers.size() || address.offset + 8 > request.arguments.size()) std::exit(3);
        const char* pointer = request.buffers[address.buffer].memory.get() + address.add;
        std::memcpy(request.arguments.data() + address.offset, &pointer, sizeof pointer);
    }
    return request;
}

void write(const void* place, size_t bytes) { std::fwrite(place, 1, bytes, stdout); }

}  // namespace

int main() {
    uint64_t name_bytes;
    while (std::fread(&name_bytes, sizeof name_bytes, 1, stdin) == 1) {
        const Request request = read_request(name_bytes);
        std::fprintf(stderr, "launch of %s\n", request.kernel.c_str());
        char message[1024] = "";
        const int status =
            gemma_emulated_launch(request.kernel.c_str(), request.grid, request.block, 0, request.arguments.data(),
                                  request.arguments.size(), request.seed, message, sizeof message);
        const uint64_t answer[2] = {static_cast<uint64_t>(status), std::strlen(message)};
        write(answer, sizeof answer);
        write(message, answer[1]);
        for (const Buffer& buffer : request.buffers) write(buffer.memory.get(), buffer.bytes);
        std::fflush(stdout);
    }
    return 0;
}
