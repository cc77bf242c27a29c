"""Which processors run 8-bit files."""

import pytest

from models.processor import multiplies_int8


@pytest.mark.parametrize(
    ("cpuinfo", "able"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512vl\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("Features\t: fp asimd evtstrm aes asimddp\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("Features\t: fp asimd evtstrm aes\n", False),
        ("model name\t: avx512_vnni\nflags\t\t: fpu\n", False),
        ("", False),
    ],
)
def test_the_flags_decide(cpuinfo, able, tmp_path):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert multiplies_int8(tmp_path / "cpuinfo") is able


def test_a_system_that_does_not_tell_has_none(tmp_path):
    assert not multiplies_int8(tmp_path / "cpuinfo")
