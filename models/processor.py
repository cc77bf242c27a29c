"""What this machine's processor can do."""

from pathlib import Path

# Of x86 the instructions that add up four products of 8-bit integers without overflow (VNNI, with
# 512 bits or with 256), of ARM those of its vectors.
_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})


def multiplies_int8(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether it multiplies 8-bit integers fast and exactly; False where the system does not say.

    Without these instructions x86 adds two products up in 16 bits, where they may overflow: a
    network would answer otherwise than it was measured.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    named = (line.partition(":") for line in lines)
    flags = (words for name, _, words in named if name.strip().lower() in ("flags", "features"))
    return bool(_INSTRUCTIONS.intersection(next(flags, "").split()))
