from __future__ import annotations

import pytest

from hgq.errors import ConfigError
from hgq.estimate import device_of, known_devices

PARTS = [
    "xcvu13p-flga2577-2-e", "xcvu9p-flga2104-2L-e", "xcvu9p-flgb2104-2-e", "xc7z020clg400-1", "xck26-sfvc784-2LV-c", "xczu7ev-ffvc1156-2-e",
    "xcu250-figd2104-2L-e", "xc7a100tcsg324-1", "lfe5u-85f-6bg381c", "ice40hx8k-ct256", "gw1nr-lv9qn88pc6", "5cseba6u23i7",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_parts(part):
    device = device_of(part)
    assert device.part == part or part.startswith(device.die)
    assert set(device.available) == {"lut", "ff", "dsp", "bram18"} and min(device.available.values()) >= 0
    assert device.available["lut"] > 0 and device.available["bram18"] > 0
    assert len(device.source) > 20
    assert device.available["ff"] in (2 * device.available["lut"], device.available["lut"], 0.75 * device.available["lut"])


def test_every_listed_device_is_found_by_its_own_name():
    for device in known_devices():
        assert device_of(device.part) == device
        assert device_of(device.part.upper()).die == device.die
        family = device.family
        assert family.lut_per_cost.low < family.lut_per_cost.value < family.lut_per_cost.high
        assert set(family.basis) == {"lut", "ff", "period"}


def test_boards_and_other_packages():
    assert device_of("pynq-z2").part == "xc7z020clg400-1"
    other = device_of("xcvu13p-fhga2104-3-e")
    assert other.part == "xcvu13p-fhga2104-3-e" and other.available == device_of(PARTS[0]).available
    assert device_of("xc7a100tfgg484-2").die == "xc7a100t"
    assert device_of("LFE5U-85F-8BG756C").die == "lfe5u-85f"


def test_faster_grades_are_faster():
    factors = [device_of(f"xcvu13p-flga2577-{grade}-e").period_factor for grade in (1, 2, 3)]
    assert factors[0] > factors[1] == 1.0 > factors[2]
    factors = [device_of(f"lfe5u-85f-{grade}bg381c").period_factor for grade in (6, 7, 8)]
    assert factors[0] > factors[1] > factors[2]


@pytest.mark.parametrize(
    ("part", "close"), [("xcvu13", "xcvu13p-flga2577-2-e"), ("xcvu13p-flga2577-2", "xcvu13p-flga2577-2-e"), ("pynqz2", "xc7z020clg400-1")]
)
def test_unknown_parts_name_the_closest(part, close):
    with pytest.raises(ConfigError) as caught:
        device_of(part)
    error = caught.value
    assert error.exit_code == 2 and error.where == "part" and error.received == repr(part)
    assert f"Did you mean {close}?" in str(error.fix) and "To add a device, write one TOML file like" in str(error.fix)


@pytest.mark.parametrize("part", ["", "virtex", "xcvu13p; rm -rf /", "xcvu13p-flga2577-2-e\n[x", "xcvu13pp-flga2577-2-e", "../xcvu13p"])
def test_nonsense_is_refused(part):
    with pytest.raises(ConfigError, match="This part is not known"):
        device_of(part)


def test_a_damaged_device_file_is_named(tmp_path):
    from hgq.estimate import devices as module

    path = tmp_path / "x.toml"
    for text in ("title = 3 [", 'title = "x"', 'title = "x"\ndie = "x"\npart = "x"\nfamily = "x"\nsource = "x"\n[available]\nlut = 1'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"(?s)A device file is not understood.*x\.toml"):
            module._read(path)
    path.write_text('title="x"\ndie="x"\npart="x"\nfamily="stratix"\nsource="x"\n[available]\nlut=1\nff=1\ndsp=1\nbram18=1')
    with pytest.raises(ConfigError, match="Unknown device family"):
        module._read(path)
