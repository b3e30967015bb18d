"""What the gguf package makes of block formats: stored bytes for given values, and values for given bytes.

Called by goldens.py; needs neither torch nor transformers. Only published behaviour of the package is used.
"""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

# Those that the package can quantise to.
QUANTISED = (Type.Q8_0, Type.Q5_0, Type.Q4_1, Type.Q4_0, Type.F16, Type.BF16)

# Places of the f16 scales in a block, in bytes.
SCALES = {
    Type.Q8_0: (0,),
    Type.Q6_K: (208,),
    Type.Q5_K: (0, 2),
    Type.Q5_0: (0,),
    Type.Q4_1: (0, 2),
    Type.Q4_K: (0, 2),
    Type.Q4_0: (0,),
}

# Both zeros, the least and the largest subnormal, the least and the largest normal number, and usual ones.
SPECIAL = [0.0, -0.0, 2.0**-24, -(2.0**-24), 2.0**-14 - 2.0**-24, 2.0**-14, 65504.0, -65504.0, 1.0, -0.37]

STORED_BLOCKS = 24


def values():
    """Rows of magnitudes from 4e-11 to 4e4, and some that are awkward."""
    rng = np.random.default_rng(11)
    values = rng.normal(0.0, 1.0, (16, 128)).astype(np.float32)
    values *= np.float32(10.0) ** np.arange(-8, 8, dtype=np.float32)[:, None] * np.float32(0.004)
    values[3, :32] = 0.0
    values[5, 32:64] = 0.0
    values[5, 40] = -3.5
    values[6, 64:96] = np.where(np.arange(32) % 2 == 0, 1.25, -1.25)
    values[7, :64] = np.arange(-32, 32, dtype=np.float32) / 8
    values[8, 0:4] = [65504.0, -65504.0, 6.0e-8, -0.0]
    return np.clip(values, -65504.0, 65504.0)


def stored(kind, rng):
    """Blocks of random bits, whose scales take the special numbers and then random ones."""
    blocks = rng.integers(0, 256, (STORED_BLOCKS, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for turn, place in enumerate(SCALES[kind]):
        # A format's two scales take them in another order, so that zero meets large.
        scales = np.array(np.roll(SPECIAL, 3 * turn), dtype=np.float16)
        scales = np.concatenate([scales, rng.normal(0.0, 0.02, STORED_BLOCKS - len(scales)).astype(np.float16)])
        blocks[:, place : place + 2] = scales[:, None].view(np.uint8)
    return blocks


def write(folder):
    """`blocks.safetensors` and `stored.safetensors`."""
    folder.mkdir(parents=True)
    tensors = {"values": values()}
    for kind in QUANTISED:
        made = gguf.quants.quantize(tensors["values"], kind)
        tensors[f"{kind.name.lower()}.bytes"] = np.ascontiguousarray(made).view(np.uint8)
        tensors[f"{kind.name.lower()}.values"] = np.array(gguf.quants.dequantize(made, kind), dtype=np.float32)
    save_file(tensors, folder / "blocks.safetensors")
    rng = np.random.default_rng(12)
    tensors = {}
    for kind in SCALES:
        blocks = stored(kind, rng)
        tensors[f"{kind.name.lower()}.bytes"] = blocks
        tensors[f"{kind.name.lower()}.values"] = np.array(gguf.quants.dequantize(blocks, kind), dtype=np.float32)
    save_file(tensors, folder / "stored.safetensors")
