"""NRRD and MetaImage: units, what a header leaves out, spaces, and axes that are no space."""

import gzip
import zlib

import numpy as np
import pytest

from segdet.errors import FormatError, GeometryError
from segdet.io.annotations import load_case
from segdet.io.files import load_volume

sitk = pytest.importorskip("SimpleITK")
VOXELS = np.random.default_rng(6).integers(0, 255, (6, 8, 7), dtype=np.uint8)
SIZES, DIRECTIONS = "7 8 6", "(0.38,0,0) (0,0.4,0) (0,0,0.5)"
PLACE = f"space: LPS\nspace directions: {DIRECTIONS}\nspace origin: (1,2,3)"
MATRIX, SPACING = "TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementSpacing = 0.38 0.4 0.5"


def nrrd(path, fields, sizes=SIZES, voxels=VOXELS):
    header = f"NRRD0005\ntype: uchar\nencoding: raw\ndimension: {len(sizes.split())}\nsizes: {sizes}\n{fields}\n\n"
    path.write_bytes(header.encode() + voxels.tobytes())
    return path


def meta(path, *fields, data="LOCAL", voxels=None, kind="MET_UCHAR"):
    header = ["ObjectType = Image", "NDims = 3", "BinaryData = True", f"DimSize = {SIZES}", *fields]
    header += [f"ElementType = {kind}", f"ElementDataFile = {data}\n"]
    voxels = VOXELS.tobytes() if voxels is None else voxels
    path.write_bytes("\n".join(header).encode() + voxels * (data == "LOCAL"))
    return path


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("um", 1e-3), ("microns", 1e-3), ("\N{MICRO SIGN}m", 1e-3), ("mm", 1), ("cm", 10), ("m", 1000), ("Meters", 1000)],
)
def test_units_are_converted_in_every_place(unit, mm, tmp_path):
    units = f' "{unit}"' * 3
    for path in (
        nrrd(tmp_path / "a.nrrd", f"{PLACE}\nspace units: {units}"),
        nrrd(tmp_path / "b.nrrd", f"spacings: 0.38 0.4 0.5\naxis mins: 1 2 3\ncenters:{' node' * 3}\nunits: {units}"),
        meta(tmp_path / "a.mha", MATRIX, SPACING, "Offset = 1 2 3", f"DistanceUnits = {unit}"),
    ):
        volume = load_volume(path)
        np.testing.assert_allclose(volume.spacing, np.multiply((0.5, 0.4, 0.38), mm), rtol=1e-9)
        np.testing.assert_allclose(volume.affine[:3, 3], np.multiply((1, 2, 3), mm), rtol=1e-9)
        assert np.array_equal(volume.voxels, VOXELS)


def test_units_that_differ_by_axis(tmp_path):
    volume = load_volume(nrrd(tmp_path / "a.nrrd", f'{PLACE}\nspace units: "cm" "mm" "um"'))
    np.testing.assert_allclose(volume.spacing, (0.0005, 0.4, 3.8))
    np.testing.assert_allclose(volume.affine[:3, 3], (10, 2, 0.003))


def test_unknown_units(tmp_path):
    for path in (
        nrrd(tmp_path / "a.nrrd", f'{PLACE}\nspace units: "furlong" "mm" "mm"'),
        meta(tmp_path / "a.mha", MATRIX, SPACING, "DistanceUnits = furlong"),
    ):
        with pytest.raises(FormatError, match=rf"{path.name}: 'furlong' is no known unit of length; expected um"):
            load_volume(path)
    assert load_volume(meta(tmp_path / "b.mha", MATRIX, SPACING, "DistanceUnits = ?")).notes == (
        "the header gives no unit of length; mm were assumed",
    )


SIZE_NOTE, SPACE_NOTE = "1 mm was assumed", "LPS directions are unknown"


@pytest.mark.parametrize(
    ("fields", "spacing", "notes"),
    [
        ("", (1, 1, 1), (SPACE_NOTE, SIZE_NOTE)),
        ("space: LPS", (1, 1, 1), (SIZE_NOTE,)),
        ("space: LPS\nspace directions: (2,0,0) (0,3,0) none", (1, 3, 2), ("of 2 of 3 axes; 1 mm was assumed",)),
        ("space: LPS\nspace directions: (2,0,0) (nan,nan,nan) (0,0,4)", (4, 1, 2), ("of 2 of 3 axes",)),
        ("spacings: 2 3 4", (4, 3, 2), (SPACE_NOTE,)),
        ("Spacings: 2 3 nan", (1, 3, 2), (SPACE_NOTE, SIZE_NOTE)),
        ("thicknesses: 2 3 4", (1, 1, 1), (SPACE_NOTE, SIZE_NOTE)),
        (f"space: scanner-xyz\nspace directions: {DIRECTIONS}", (0.5, 0.4, 0.38), ("scanner-xyz: LPS",)),
        (f"space: 3D-right-handed\nspace directions: {DIRECTIONS}", (0.5, 0.4, 0.38), ("3D-right-handed: LPS",)),
        (f"space dimension: 3\nspacedirections: {DIRECTIONS}", (0.5, 0.4, 0.38), ("not given: LPS",)),
        (PLACE, (0.5, 0.4, 0.38), ()),
    ],
)
def test_what_an_nrrd_leaves_out_is_said(fields, spacing, notes, tmp_path):
    volume = load_volume(nrrd(tmp_path / "a.nrrd", fields))
    np.testing.assert_allclose(volume.spacing, spacing)
    assert len(volume.notes) == len(notes)
    assert all(text in note for text, note in zip(notes, volume.notes, strict=True))


@pytest.mark.parametrize("centers", ["", f"\ncenters:{' cell' * 3}", f"\ncenters:{' node' * 3}"])
def test_a_voxel_size_is_not_assumed_beside_the_ends_of_the_axes(centers, tmp_path):
    ends = f"axis mins: 1 2 3\naxis maxs: 3 5 7{centers}"  # ITK took the mins for the origin, and 1 mm for the voxels
    path = nrrd(tmp_path / "a.nrrd", ends)
    with pytest.raises(FormatError) as refused:
        load_volume(path)
    assert str(refused.value) == (
        f"{path}: gives the ends of its axes (axis mins, axis maxs) and not the size of its voxels; put in spacings or "
        "space directions"
    )
    assert load_volume(nrrd(path, f"{ends}\nspacings: 0.4 0.5 0.6")).spacing == (0.6, 0.5, 0.4)


@pytest.mark.parametrize(
    ("fields", "spacing", "notes"),
    [
        ((), (1, 1, 1), (SPACE_NOTE, SIZE_NOTE)),
        ((SPACING,), (0.5, 0.4, 0.38), (SPACE_NOTE,)),
        ((SPACING, "AnatomicalOrientation = LPI"), (0.5, 0.4, 0.38), (SPACE_NOTE,)),
        ((MATRIX,), (1, 1, 1), (SIZE_NOTE,)),
        ((MATRIX, "ElementSize = 2 3 4"), (4, 3, 2), ()),
        ((MATRIX, SPACING, "ElementSize = 2 3 4"), (0.5, 0.4, 0.38), ()),
        ((MATRIX.replace("TransformMatrix", "Rotation"), SPACING), (0.5, 0.4, 0.38), ()),
    ],
)
def test_what_a_metaimage_leaves_out_is_said(fields, spacing, notes, tmp_path):
    volume = load_volume(meta(tmp_path / "a.mha", *fields))
    np.testing.assert_allclose(volume.spacing, spacing)
    assert len(volume.notes) == len(notes)
    assert all(text in note for text, note in zip(notes, volume.notes, strict=True))


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (("left-posterior-superior", "LPS"), (1, 1, 1)),
        (("right-anterior-superior", "RAS"), (-1, -1, 1)),
        (("left-anterior-superior", "LAS"), (1, -1, 1)),
    ],
)
def test_spaces_of_a_patient(names, flip, tmp_path):
    expected = np.zeros((3, 4))
    expected[[2, 1, 0], [0, 1, 2]] = (0.5, 0.4, 0.38)
    expected[:, 3] = (1, 2, 3)
    expected *= np.reshape(flip, (3, 1))
    for name in names:
        volume = load_volume(nrrd(tmp_path / "a.nrrd", PLACE.replace("LPS", name)))
        np.testing.assert_allclose(volume.affine[:3], expected)
        assert volume.notes == ()
    in_time = PLACE.replace("LPS", names[1] + "T").replace("0)", "0,0)").replace("0.5)", "0.5,0) (0,0,0,1)")
    path = nrrd(tmp_path / "t.nrrd", in_time.replace("3)", "3,0)"), f"{SIZES} 2", np.stack([VOXELS, VOXELS + 1]))
    volume = load_volume(path, frame=1)
    np.testing.assert_allclose(volume.affine[:3], expected)
    assert np.array_equal(volume.voxels, VOXELS + 1)
    assert len(volume.notes) == 1  # of the frame


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_sequence_of_slicer_is_read_by_frame(place, tmp_path):
    frames = np.stack([VOXELS, VOXELS + 1, VOXELS + 2])
    kinds, sizes, directions = ["domain"] * 3, SIZES.split(), DIRECTIONS.split()
    for values, value in ((kinds, "list"), (sizes, "3"), (directions, "none")):
        values.insert(place, value)
    fields = f"space: LPS\nkinds: {' '.join(kinds)}\nspace directions: {' '.join(directions)}"
    path = nrrd(tmp_path / "a.seq.nrrd", fields, " ".join(sizes), np.moveaxis(frames, 0, 3 - place))
    with pytest.raises(FormatError, match=r"a\.seq\.nrrd: holds 3 volumes .* frame=0 to frame=2"):
        load_volume(path)
    for frame in range(3):
        volume = load_volume(path, frame=frame)
        assert np.array_equal(volume.voxels, frames[frame])
        np.testing.assert_allclose(volume.spacing, (0.5, 0.4, 0.38))
    vector = nrrd(tmp_path / "v.nrrd", fields.replace("list", "vector"), " ".join(sizes), frames)
    with pytest.raises(FormatError, match="3 values a voxel"):
        load_volume(vector, frame=1)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", ["time", "none", "???"])
def test_an_axis_that_is_no_space_stands_anywhere(kind, place, tmp_path):
    frames = np.stack([VOXELS, VOXELS + 1, VOXELS + 2])
    axes = ['domain 7 0.4 "cm" 1 node', 'domain 8 0.5 "mm" 2 node', 'domain 6 2 "mm" 3 node']
    axes.insert(place, f'{kind} 3 30 "s" 9 node')
    fields = zip(*[axis.split() for axis in axes], strict=True)
    kinds, sizes, spacings, units, mins, centers = (" ".join(field) for field in fields)
    for spacing, expected, origin in (("2", (2, 0.5, 4), (10, 2, 3)), ("nan", (1, 0.5, 4), (0, 0, 0))):
        given = spacings.replace("2", spacing)
        fields = f"kinds: {kinds}\nspacings: {given}\nunits: {units}\naxis mins: {mins}\ncenters: {centers}"
        path = nrrd(tmp_path / "a.nrrd", fields, sizes, np.moveaxis(frames, 0, 3 - place))
        volume = load_volume(path, frame=1)
        assert np.array_equal(volume.voxels, VOXELS + 1)
        np.testing.assert_allclose(volume.spacing, expected)
        np.testing.assert_allclose(volume.affine[:3, 3], origin)  # ITK drops it where a spacing is nan
        assert volume.notes == (
            "the space of the header is not given: LPS directions are unknown",
            *["the header gives the voxel size of 2 of 3 axes; 1 mm was assumed for the others"] * (spacing == "nan"),
            "volume 2 of 3 was read, as frame=1 asked",
        )


def test_time_may_be_the_first_axis_of_a_patient_in_time_and_of_slices(tmp_path):
    frames = np.stack([VOXELS, VOXELS + 1], -1)
    directions = "(0,0,0,30) (0.4,0,0,0) (0,0.5,0,0) (0,0,2,0)"
    fields = f"space: RAST\nspace directions: {directions}\nspace origin: (1,2,3,4)"
    for kinds in ("", "\nkinds: time space space space"):
        volume = load_volume(nrrd(tmp_path / "a.nrrd", fields + kinds, f"2 {SIZES}", frames), frame=1)
        np.testing.assert_allclose(volume.affine[:3], [[0, 0, -0.4, -1], [0, -0.5, 0, -2], [2, 0, 0, 3]])
        assert np.array_equal(volume.voxels, VOXELS + 1)
    fields = "kinds: domain domain time\nspacings: 0.4 0.5 30"  # which was read as slices 30 mm apart
    volume = load_volume(nrrd(tmp_path / "b.nrrd", fields), frame=4)
    assert np.array_equal(volume.voxels, VOXELS[4:5])
    np.testing.assert_allclose(volume.spacing, (1, 0.5, 0.4))


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("", f"{SIZES} 2"),
        ("spacings: 0.4 0.5 2 30", "2 7 8 3"),
        ("kinds: none none none none\nspacings: 0.4 0.5 2 30", f"{SIZES} 2"),
        ("kinds: domain domain ??? ???\nspacings: 0.4 0.5 2 30", f"{SIZES} 2"),
        ("space dimension: 4\nspace directions: (1,0,0,0) (0,1,0,0) (0,0,1,0) (0,0,0,1)", f"{SIZES} 2"),
        ("spacings: nan 0.4 0.5 2", "2 7 8 3"),
        ("kinds: domain domain domain domain\nspacings: 0.4 nan 0.5 2", "7 2 8 3"),
        ("kinds: time domain domain time\nspacings: 30 0.4 0.5 30", "2 7 8 3"),
        ("kinds: ??? domain ??? domain\nspacings: 0.4 0.5 2 2", "2 7 8 3"),
        ("kinds: time time domain\nspacings: 30 0.4 0.5", SIZES),
        (f"{PLACE}\nkinds: space space time", SIZES),
        ("kinds: domain time\nspacings: 0.4 30", "7 48"),
    ],
)
def test_axes_of_which_it_is_unclear_what_they_span_are_refused(fields, sizes, tmp_path):
    count, kinds = len(sizes.split()), fields.partition("kinds: ")[2].partition("\n")[0] or "not given"
    voxels = np.resize(VOXELS, [int(size) for size in sizes.split()])
    with pytest.raises(FormatError) as caught:
        load_volume(nrrd(tmp_path / "a.nrrd", fields, sizes, voxels), frame=0)
    assert str(caught.value) == (
        f"{tmp_path / 'a.nrrd'}: which of its {count} axes span space is unclear, its kinds are {kinds}; expected two "
        "or three domain, and the others list"
    )


def test_sheared_axes_are_refused(tmp_path):
    for path in (
        nrrd(tmp_path / "a.nrrd", "space: LPS\nspace directions: (1,0,0) (0.3,1,0) (0,0,2)"),
        meta(tmp_path / "a.mha", "TransformMatrix = 1 0 0 0.28 0.96 0 0 0 1", SPACING),
    ):
        with pytest.raises(GeometryError, match=f"{path.name}: its axes are not perpendicular"):
            load_volume(path)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("ElementSpacing = 0.38 0.4", "its ElementSpacing is 0.38 0.4; expected 3 numbers"),
        ("Offset = 1 2", "its Offset is 1 2; expected 3 numbers"),  # ITK would go on without the voxel size
        ("Position = 1 2 nan", "its Position is 1 2 nan; expected 3 numbers"),
        ("Rotation = 1 0 0 1", "its Rotation is 1 0 0 1; expected 9 numbers"),
        ("TransformMatrix = 2 0 0 0 1 0 0 0 1", r"axes in its TransformMatrix have the lengths \[2.0, 1.0, 1.0\]"),
        ("TransformMatrix = 0 0 0 0 0 0 0 0 0", r"have the lengths \[0.0, 0.0, 0.0\]; expected 1"),
    ],
)
def test_numbers_of_a_metaimage_that_are_no_place(field, message, tmp_path, capfd):
    fields = {line.split()[0]: line for line in (MATRIX, SPACING, field)}
    with pytest.raises((FormatError, GeometryError), match=rf"a\.mha: .*{message}"):
        load_volume(meta(tmp_path / "a.mha", *fields.values()))
    assert capfd.readouterr().err == ""


def test_a_cut_file_is_named_before_itk_reads_it(tmp_path, capfd):
    for path in (nrrd(tmp_path / "a.nrrd", PLACE + "\nendian: little"), meta(tmp_path / "a.mha", MATRIX, SPACING)):
        path.write_bytes(path.read_bytes()[:-320])
        with pytest.raises(FormatError, match=rf"{path.name}: announces 7 x 8 x 6 voxels \(336 bytes\)"):
            load_volume(path)
    assert capfd.readouterr().err == ""


def test_voxels_beside_a_header(tmp_path):
    (tmp_path / "there ü.raw").write_bytes(VOXELS.tobytes())
    for data in ("there ü.raw", "./there ü.raw"):
        assert np.array_equal(load_volume(meta(tmp_path / "a.mhd", MATRIX, SPACING, data=data)).voxels, VOXELS)
    for data in ("gone.raw", "../there ü.raw", "."):
        with pytest.raises(FormatError, match=r"a\.mhd: .* ElementDataFile = LOCAL or a file beside it"):
            load_volume(meta(tmp_path / "a.mhd", MATRIX, SPACING, data=data))


def test_compressed_voxels_as_they_were_packed(tmp_path):
    """ITK hands out memory that nobody filled where the size is missing, or where the voxels are cut off."""
    packed = zlib.compress(VOXELS.tobytes())
    for data, *size in (
        (packed, f"CompressedDataSize = {len(packed)}"),
        (packed,),
        (gzip.compress(VOXELS.tobytes()),),
        (packed + b"\n", f"CompressedDataSize = {len(packed)}"),
    ):
        path = meta(tmp_path / "a.mha", MATRIX, SPACING, "CompressedData = True", *size, voxels=data)
        assert np.array_equal(load_volume(path).voxels, VOXELS)
    for data, message in (
        (packed[:-9], "cut off|its voxels need 336 bytes"),
        (zlib.compress(VOXELS.tobytes()[:-1]), "its voxels need 336 bytes, a.mha holds 335"),
        (zlib.compress(VOXELS.tobytes() + b"more"), "its voxels need 336 bytes, a.mha holds 337"),
        (b"x" + packed, "its compressed voxels are damaged"),
    ):
        with pytest.raises(FormatError, match=rf"a\.mha: .*({message})"):
            load_volume(meta(tmp_path / "a.mha", MATRIX, SPACING, "CompressedData = True", voxels=data))
    with pytest.raises(FormatError, match=r"its CompressedData is 'yes'; expected True or False"):
        load_volume(meta(tmp_path / "a.mha", MATRIX, SPACING, "CompressedData = yes", voxels=packed))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("CHAR", "i1"), ("SHORT", "i2"), ("USHORT", "u2"), ("INT", "i4"), ("LONG", "i4"), ("ULONG", "u4"),
     ("LONG_LONG", "i8"), ("FLOAT", "f4"), ("DOUBLE", "f8")],
)  # fmt: skip
def test_types_and_byte_orders_as_simpleitk(name, kind, order, tmp_path):
    fields = (MATRIX, SPACING, "Offset = 1 2 3", f"BinaryDataByteOrderMSB = {order == '>'}")
    stored = (VOXELS // 2).astype(order + kind)
    path = meta(tmp_path / "a.mha", *fields, voxels=stored.tobytes(), kind=f"MET_{name}")
    volume, image = load_volume(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.voxels, VOXELS // 2)
    assert volume.voxels.dtype == np.dtype(kind)
    assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(image))
    assert np.allclose((volume.affine @ [5, 7, 6, 1])[:3], image.TransformIndexToPhysicalPoint((6, 7, 5)))


def test_where_the_voxels_of_a_metaimage_begin(tmp_path):
    for size, data in ((-1, b"1234" + VOXELS.tobytes()), (0, VOXELS.tobytes() + b"1234")):
        path = meta(tmp_path / "a.mha", MATRIX, SPACING, f"HeaderSize = {size}", voxels=data)
        assert np.array_equal(load_volume(path).voxels, VOXELS)
    (tmp_path / "a.raw").write_bytes(b"1234" + VOXELS.tobytes())
    for name in ("a.mhd", "a.mha"):
        path = meta(tmp_path / name, MATRIX, SPACING, "HeaderSize = 4", data="a.raw")
        assert np.array_equal(load_volume(path).voxels, VOXELS)
    with pytest.raises(FormatError, match="its HeaderSize is 4; expected none, or voxels that begin behind the header"):
        load_volume(meta(tmp_path / "a.mha", MATRIX, SPACING, "HeaderSize = 4"))


def test_the_scale_of_a_metaimage_is_applied(tmp_path):
    scale = ("ElementToIntensityFunctionSlope = 2", "ElementToIntensityFunctionOffset = -5")
    volume = load_volume(meta(tmp_path / "a.mha", MATRIX, SPACING, *scale))
    assert np.array_equal(volume.voxels, VOXELS * 2.0 - 5)
    assert volume.notes == ("its ElementToIntensityFunction, 2 x + -5, was applied",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("Offset = 1 2 3", "Position = 9 9 9"), "Offset = 1 2 3 and Position = 9 9 9; put one of them right"),
        (
            ("BinaryDataByteOrderMSB = True", "ElementByteOrderMSB = False"),
            "BinaryDataByteOrderMSB = True and ElementByteOrderMSB = False; put one of them right",
        ),
        (("Rotation = 0 1 0 1 0 0 0 0 1",), "TransformMatrix = .* and Rotation = 0 1 0"),
        (("ElementSpacing = 0.38 -0.4 0.5",), r"its voxel size is \[0.38, -0.4, 0.5\]; expected numbers above 0"),
        (("ElementSpacing = 0.38 0 0.5",), r"its voxel size is \[0.38, 0.0, 0.5\]"),
        (("DimSize = 7 8 0",), "its DimSize is 7 8 0: it holds no voxel"),
    ],
)
def test_a_metaimage_that_contradicts_itself(fields, message, tmp_path):
    path = meta(tmp_path / "a.mha", MATRIX, *fields)
    if "DimSize" in fields[0]:
        path.write_bytes(path.read_bytes().replace(b"DimSize = 7 8 6\n", b""))
    with pytest.raises((FormatError, GeometryError), match=rf"a\.mha: .*{message}"):
        load_volume(path)
    agreeing = meta(tmp_path / "b.mha", MATRIX, MATRIX.replace("TransformMatrix", "Rotation"), SPACING)
    assert load_volume(agreeing).notes == ()
    orders = "BinaryDataByteOrderMSB = True", "ElementByteOrderMSB = true"
    big = meta(tmp_path / "c.mha", *orders, voxels=VOXELS.astype(">i2").tobytes(), kind="MET_SHORT")
    assert np.array_equal(load_volume(big).voxels, VOXELS)


BESIDE = "expected ElementDataFile = LOCAL or a file beside it"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("= LOCAL", "= gone.raw", f"there is no gone.raw beside it; {BESIDE}"),
        ("= LOCAL", "= LIST", f"its voxels are in several files (LIST); {BESIDE}"),
        ("= LOCAL", "= s%d.raw 0 7 1", f"its voxels are in several files (s%d.raw 0 7 1); {BESIDE}"),
        ("= LOCAL", "=", f"it does not say where its voxels are; {BESIDE}"),
        ("Data = True", "Data = False", "its BinaryData is False; expected BinaryData = True, no voxels as text"),
        ("BinaryData = True\n", "", "its BinaryData is not given; expected BinaryData = True, no voxels as text"),
        ("NDims = 3", "NDims = 5", "its NDims is 5; expected 2, 3 or 4"),
        ("NDims = 3\n", "", "its NDims is not given; expected 2, 3 or 4"),
        ("= 7 8 6", "= 7 8", "its DimSize is 7 8; expected 3 whole numbers"),
        ("= 7 8 6", "= 7 8 -6", "its DimSize is 7 8 -6; expected 3 whole numbers"),
    ],
)
def test_a_metaimage_says_what_keeps_it_from_being_read(old, new, said, tmp_path):
    path = meta(tmp_path / "a.mhd", MATRIX, SPACING)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(FormatError) as caught:
        load_volume(path)
    assert str(caught.value) == f"{path}: not a readable MetaImage file: {said}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ElementSpacing = 0.4 0.5 2", "ElementSpacing = 4 5 2"),
        ("Offset = 1 2 3", "Offset = 1 2 4"),
        (MATRIX, "TransformMatrix = 0 1 0 1 0 0 0 0 1"),
        ("DistanceUnits = mm", "DistanceUnits = cm"),
        ("ElementByteOrderMSB = False", "ElementByteOrderMSB = True"),
        ("HeaderSize = 0", "HeaderSize = -1"),
        ("ElementToIntensityFunctionSlope = 1", "ElementToIntensityFunctionSlope = 2"),
    ],
)
def test_a_field_of_a_metaimage_that_says_two_things(first, second, tmp_path):
    with pytest.raises(GeometryError) as caught:
        load_volume(meta(tmp_path / "a.mha", first, second))
    said = f"{first} and {second}; expected each once"
    assert str(caught.value) == f"{tmp_path / 'a.mha'}: its header contradicts itself: {said}"
    assert load_volume(meta(tmp_path / "b.mha", first, first, "Comment = a", "Comment = b")).voxels.shape == (6, 8, 7)


@pytest.mark.parametrize("mask", ["m.mha", "m.nrrd"])
def test_a_mask_without_directions_leaves_those_of_its_scan(mask, tmp_path):
    identity = "(1,0,0) (0,1,0) (0,0,1)"
    scan = meta(tmp_path / "scan.mha", MATRIX, "ElementSpacing = 1 1 1")
    if mask == "m.mha":
        meta(tmp_path / mask, "ElementSpacing = 1 1 1")
    else:
        nrrd(tmp_path / mask, f"space dimension: 3\nspace directions: {identity}")
    assert load_volume(tmp_path / mask).orientation == ()
    case = load_case(scan, tmp_path / mask)
    assert load_volume(scan).orientation == case.orientation == ("S", "P", "L")
    assert not any("directions are unknown" in note for note in case.notes)
    meta(scan, "ElementSpacing = 1 1 1")
    assert load_case(scan, tmp_path / mask).orientation == ()


def test_an_nrrd_with_its_voxels_elsewhere(tmp_path):
    (tmp_path / "there.raw").write_bytes(VOXELS.tobytes())
    path = nrrd(tmp_path / "a.nrrd", f"{PLACE}\ndata file: there.raw")
    path.write_bytes(path.read_bytes().removesuffix(b"\n" + VOXELS.tobytes()))
    with pytest.raises(FormatError, match=r"a\.nrrd: its voxels are in another file, there\.raw; name it \.nhdr"):
        load_volume(path)
    volume = load_volume(path.rename(tmp_path / "a.nhdr"))
    assert np.array_equal(volume.voxels, VOXELS)


def test_axes_of_an_nrrd_that_span_no_space(tmp_path):
    with pytest.raises(FormatError, match=r"a\.nrrd: not a readable NRRD file: Bad direction, determinant is 0"):
        load_volume(nrrd(tmp_path / "a.nrrd", "space: LPS\nspace directions: (1,0,0) (1,0,0) (0,0,2)"))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("content: 0123456789", "type: uchar", "already set field type"),
        ("raw", "bzip2", "Sorry, bzip2 encoding not available in NrrdIO"),
        ("raw", "raw", "fread got only 331 1-sized things, not 336 (98.5119% of expected)"),
    ],
)
def test_the_reason_of_itk_is_told(old, new, reason, tmp_path):
    path = nrrd(tmp_path / "a.nrrd", f"{PLACE}\ncontent: 0123456789")
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    if old == new:  # cut by less than the header is long, which only ITK sees
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError) as caught:
        load_volume(path)
    assert str(caught.value) == f"{path}: not a readable NRRD file: {reason}"


def test_a_refusal_by_itk_is_one_line_without_addresses(tmp_path):
    with pytest.raises(FormatError) as caught:
        load_volume(nrrd(tmp_path / "a.nrrd", "space: LPS\nspacings: 1 1 1"))
    assert str(caught.value).startswith(f"{tmp_path / 'a.nrrd'}: not a readable NRRD file: ")
    assert "0x" not in str(caught.value)
