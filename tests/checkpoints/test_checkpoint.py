"""A loaded checkpoint equals the saved one bit for bit; damage, crashes and other files are detected."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ffnn_gpu.checkpoints import checkpoint, tensor_file
from ffnn_gpu.checkpoints.checkpoint import find, load, load_extras, save
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import (
    CheckpointCorruptError,
    CheckpointError,
    ConfigurationError,
    IncompatibleCheckpointError,
)
from ffnn_gpu.nn.activations import ACTIVATIONS, gelu, relu, tanh
from ffnn_gpu.nn.initializers import INITIALIZERS
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, LogSoftmax, Residual, Softmax
from ffnn_gpu.nn.losses.standard import mean_squared_error
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Adam
from ffnn_gpu.training.fit import train_step
from tests.checkpoints.crash_points import count_calls, crashes, is_killed
from tests.checkpoints.test_tensor_file import with_header

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs kill and resource")
LAYERS = (
    Dense(6, relu), BatchNorm(),
    Residual([LayerNorm(), Dense(6, gelu), Dropout(0.1), Residual([Dense(6, bias=False)])]),
    Dropout(0.2), Dense(3), LogSoftmax(), Softmax(),
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Shift(Layer):
    """A custom layer: a = x + offset + strength."""

    strength: float = 0.0

    def parameter_shapes(self, I):
        return {"offset": (I,)}

    def initial_values(self, rng, I):
        return {"offset": rng.normal(size=I)}

    def forward(self, backend, p, x, buf):
        buf.a[...] = x + p.offset + self.strength
        return buf.a


def network_of(layers=LAYERS, backend="numpy", dtype="float64", seed=3, updates=2):
    network = Network(4, layers, backend, dtype, seed)
    if updates:
        rng, width = np.random.default_rng(0), network.widths[-1]
        x = network.backend.asarray(rng.normal(size=(8, 4)), network.dtype)
        ws = network.workspace(8)
        for _ in range(updates):
            train_step(
                network,
                mean_squared_error,
                Adam(),
                x,
                network.backend.asarray(rng.normal(size=(8, width))),
                ws,
            )
    return network


def assert_equal_networks(a, b):
    assert (a.n_in, a.layers, a.dtype, a.seed) == (b.n_in, b.layers, b.dtype, b.seed)
    assert int(a.params.step[0]) == int(b.params.step[0])
    mine, theirs = a.params.to_host(), b.params.to_host()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.tobytes() == theirs[name].tobytes(), name


def assert_nothing_beside(path):
    assert [entry.name for entry in path.parent.iterdir()] == [f"{path.name}.safetensors"]


OLD = Path(__file__).parents[1] / "golden" / "checkpoints" / "format-1-float32"


# ---------------------------------------------------------------------- round trips


def test_loaded_network_equals_the_saved_one_bit_for_bit(tmp_path, backend, dtype):
    network = network_of(backend=backend, dtype=dtype)
    save(network, tmp_path / "model")
    back = load(tmp_path / "model", backend)
    assert_equal_networks(back, network)
    x = np.random.default_rng(1).normal(size=(5, 4))
    np.testing.assert_array_equal(back.predict(x), network.predict(x))
    assert back.backend is backend
    assert_nothing_beside(tmp_path / "model")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_loaded(tmp_path, name):
    phi = ACTIVATIONS[name]
    network = network_of([Dense(5, phi), Dense(2, phi.with_alpha(0.3) if phi.alpha else phi)])
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_every_initializer_is_loaded(tmp_path):
    network = network_of([Dense(5, weights=start) for start in INITIALIZERS.values()], updates=0)
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_custom_layer_is_loaded_if_its_class_is_given(tmp_path):
    network = network_of([Dense(3), Shift(2.5), Shift()], updates=0)
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy", layers=[Shift]), network)
    with pytest.raises(
        IncompatibleCheckpointError, match=r"a layer 'Shift'.*load\(path, layers=\[MyLayer\]\)"
    ):
        load(tmp_path / "model", "numpy")


@pytest.mark.parametrize("layers", [(), (Dropout(0.5),), (Dense(1, bias=False),), (BatchNorm(),)])
def test_network_with_few_or_no_parameters_is_loaded(tmp_path, layers):
    network = network_of(layers, updates=0)
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_numpy_numbers_as_settings_are_loaded(tmp_path):
    network = Network(np.int64(4), [Dense(np.int32(3)), Dropout(np.float64(0.5))], "numpy", seed=np.int64(7))
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_extreme_values_are_loaded_bit_for_bit(tmp_path, dtype):
    network, info = network_of([Dense(3)], dtype=dtype, updates=0), np.finfo(dtype)
    values = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 0.0, 1, -1, info.eps, np.pi, 2, 3]
    W = np.array(values, dtype).reshape(4, 3)
    network.params.assign({"0.W": W, "0.b": -W[0]})
    save(network, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_extras_are_loaded(tmp_path):
    standardizer = Standardizer.fit(np.random.default_rng(0).normal(size=(9, 4)))
    extras = {
        "standardizer": standardizer.to_json(),
        "labels": ["a", "ü", None],
        "x": 0.1 + 0.2,
        "n": 10**30,
        "on": True,
    }
    save(network_of(), tmp_path / "model", extras=extras)
    assert load_extras(tmp_path / "model") == extras
    back = Standardizer.from_json(load_extras(tmp_path / "model")["standardizer"])
    np.testing.assert_array_equal(back.mean, standardizer.mean)
    save(network_of(), tmp_path / "model")
    assert load_extras(tmp_path / "model") == {}


def test_values_of_arrays_that_are_not_contiguous_are_saved(tmp_path):
    a = np.arange(24.0).reshape(4, 6)
    arrays = {"transposed": a.T, "strided": a[::2, 1::3], "reversed": a[::-1, ::-1],
              "fortran": np.asfortranarray(a), "broadcast": np.broadcast_to(a[0], (3, 6)),
              "scalar": np.array(2.5), "empty": a[:0]}  # fmt: skip
    checkpoint.write(network_of(), tmp_path / "model", {}, arrays)
    back = checkpoint.read(tmp_path / "model", "numpy")[2]
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_saving_replaces_the_whole_checkpoint(tmp_path):
    first, second = network_of(seed=1), network_of([Dense(2)], seed=2)
    save(first, tmp_path / "model")
    checkpoint.write(first, tmp_path / "model", {}, {"m": np.zeros(3)})
    save(second, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), second)
    assert checkpoint.read(tmp_path / "model", "numpy")[2] == {}
    assert_nothing_beside(tmp_path / "model")


def test_tensors_are_stored_by_name_with_inputs_first(tmp_path):
    network = network_of([Dense(3)])
    save(network, str(tmp_path / "model"))
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {"0.W": (4, 3), "0.b": (3,)}  # noqa: SIM118
        metadata = file.metadata()
    state = json.loads(metadata["state"])
    assert (
        json.loads(metadata["format_version"]) == 2 and state["backend"] == "numpy" and state["updates"] == 2
    )
    assert json.loads(metadata["architecture"])["n_in"] == 4


# ---------------------------------------------------------------------- paths and suffixes


@pytest.mark.parametrize(
    "name", ["model", "v1.2", "model.bin", ".hidden", "ünï code [1]", "model.safetensors", "a.SafeTensors"]
)
def test_missing_suffix_is_added_by_save_and_load(tmp_path, name):
    network, path = network_of([Dense(3)]), tmp_path / "a" / "new" / name
    file = path if name.endswith(".safetensors") else path.with_name(f"{name}.safetensors")
    assert find(path) is find(file) is None
    save(network, path)
    assert os.listdir(path.parent) == [file.name] and find(path) == find(file) == file
    assert_equal_networks(load(path, "numpy"), network)
    assert_equal_networks(load(str(file), "numpy"), network)


def test_file_without_the_suffix_is_read_unless_one_with_the_suffix_exists(tmp_path):
    save(network_of(seed=1), tmp_path / "model")
    os.rename(tmp_path / "model.safetensors", tmp_path / "model")
    assert load(tmp_path / "model", "numpy").seed == 1
    save(network_of(seed=2), tmp_path / "model")
    assert load(tmp_path / "model", "numpy").seed == 2


def test_old_folder_is_read_until_there_is_a_file_and_never_changes(tmp_path):
    folder = shutil.copytree(OLD / "exact", tmp_path / "model")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert find(folder) == folder and load(folder, "numpy").n_in == 3 and load_extras(folder)
    for path in (folder, folder.with_suffix(".safetensors")):
        save(network_of(), path)
        assert_equal_networks(load(path, "numpy"), network_of())
    with pytest.raises(CheckpointError, match="is not a checkpoint file of ffnn_gpu; it was not changed"):
        save(network_of(), folder / "model.safetensors")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["model", "model.safetensors"]


@pytest.mark.parametrize("path", ["", ".", "..", "/"])
def test_path_without_a_file_name_is_refused(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="is a folder; add the name of a file"):
        save(network_of([Dense(3)]), path)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load(path, "numpy")
    assert not os.listdir(tmp_path)


def test_damaged_checkpoint_may_be_overwritten(tmp_path):
    save(network_of(), tmp_path / "model")
    file = tmp_path / "model.safetensors"
    for damaged in (file.read_bytes()[:200], b""):
        file.write_bytes(damaged)
        save(network_of(), tmp_path / "model")
        assert_equal_networks(load(tmp_path / "model", "numpy"), network_of())


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x"])
def test_extras_without_a_json_form_do_not_change_the_old_file(tmp_path, value):
    save(network_of(), tmp_path / "model")
    with pytest.raises(TypeError):
        save(network_of(seed=9), tmp_path / "model", extras={"x": value})
    assert_equal_networks(load(tmp_path / "model", "numpy"), network_of())
    assert_nothing_beside(tmp_path / "model")


def test_checkpoint_is_loaded_without_cupy(tmp_path):
    network = network_of()
    save(network, tmp_path / "model")
    code = (
        "import importlib.abc, sys\n"
        "class Refuse(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('cupy', 'cupyx', 'cupy_backends'):\n"
        "            raise ImportError('no cupy here')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import numpy as np\nimport ffnn_gpu\n"
        "network = ffnn_gpu.load(sys.argv[1], 'auto')\n"
        "assert network.backend.name == 'numpy', network.backend.name\n"
        "assert 'no cupy here' in network.backend.reason, network.backend.reason\n"
        "sys.stdout.buffer.write(network.predict(np.ones((2, 4))).tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == network.predict(np.ones((2, 4))).tobytes()


def test_package_uses_no_function_that_executes_loaded_files():
    import ffnn_gpu

    folder = os.path.dirname(ffnn_gpu.__file__)
    sources = [
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.endswith(".py")
    ]
    forbidden = [
        "import pickle",
        "from pickle",
        "marshal",
        "eval(",
        "exec(",
        "allow_pickle=True",
        "np.fromregex",
        "shelve",
    ]
    for source in sources:
        with open(source, encoding="utf-8") as file:
            text = file.read()
        assert not [word for word in forbidden if word in text], source


# ---------------------------------------------------------------------- damage


def test_every_truncation_and_a_flip_in_every_byte_are_detected(tmp_path):
    path, rng = tmp_path / "model.safetensors", random.Random(0)
    checkpoint.write(network_of([Dense(2, tanh)]), path, {"extras": {}}, {"m": np.arange(3.0)})
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [whole[:i] + bytes([b ^ 1 << rng.randrange(8)]) + whole[i + 1 :] for i, b in enumerate(whole)]
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(CheckpointCorruptError):
            checkpoint.read(path, "numpy")
    path.write_bytes(whole)
    load(path, "numpy")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_text("x"),
        lambda path: path.mkdir(),
        lambda path: (path.mkdir(), (path / "thesis.txt").write_text("three years of work")),
        lambda path: safetensors.numpy.save_file({"0.W": np.zeros((4, 3))}, path),
    ],
)
@pytest.mark.parametrize("name", ["precious", "precious.safetensors"])
def test_other_files_are_neither_loaded_nor_overwritten(tmp_path, make, name):
    path = tmp_path / name
    make(path)
    before = sorted((p.name, p.is_dir() or p.read_bytes()) for p in tmp_path.rglob("*"))
    for read in (load, load_extras):
        with pytest.raises(CheckpointError, match="is not a checkpoint"):
            read(path)
    if path.exists() and path.suffix:
        with pytest.raises(
            CheckpointError, match="exists and is not a checkpoint file of ffnn_gpu; it was not changed"
        ):
            save(network_of(), path)
    elif path.exists():
        save(network_of(), path)
        path.with_suffix(".safetensors").unlink()  # the checkpoint beside the other file
    assert sorted((p.name, p.is_dir() or p.read_bytes()) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["0.W", "1.running_variance", "2.layers.0.gain"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_parameters_never_replace_a_finite_checkpoint(tmp_path, name, value):
    network = network_of()
    save(network, tmp_path / "model")
    broken = network_of()
    dict(broken.params.named())[name].flat[-1] = value
    for path in (tmp_path / "model", tmp_path / "other"):
        with pytest.raises(CheckpointError, match=rf"{name} is not finite"):
            save(broken, path)
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)
    assert_nothing_beside(tmp_path / "model")


# ---------------------------------------------------------------------- undamaged files with invalid content


def rewrite(path, *, description=None, tensors=None, state=None, version=2):
    """Replace parts of a checkpoint and make its checksum valid; a str as description may be invalid JSON."""
    file = find(path)
    arrays, values = tensor_file.read(file)
    values |= {"state": state(values["state"]) if state else values["state"], "format_version": version}
    if isinstance(description, dict):
        values["architecture"] |= description
    tensor_file.write(file, tensors(arrays) if tensors else arrays, values)
    if isinstance(description, str):
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        header["__metadata__"]["architecture"] = description
        file.write_bytes(with_header(header, content[end:]))


NAMES = [name for name, _ in network_of(updates=0).params.named()]
CHANGES = {
    "dropped": lambda numbers, name: {n: v for n, v in numbers.items() if n != name},
    "renamed": lambda numbers, name: {n + "x" * (n == name): v for n, v in numbers.items()},
    "transposed": lambda numbers, name: numbers | {name: np.ascontiguousarray(numbers[name].T)},
    "broadcastable": lambda numbers, name: numbers | {name: numbers[name][:1]},
    "scalar": lambda numbers, name: numbers | {name: numbers[name].reshape(-1)[0]},
    "with an axis more": lambda numbers, name: numbers | {name: numbers[name][None]},
    "longer": lambda numbers, name: numbers | {name: np.concatenate([numbers[name]] * 2)},
    "float32": lambda numbers, name: numbers | {name: numbers[name].astype(np.float32)},
    "whole numbers": lambda numbers, name: numbers | {name: numbers[name].astype(np.int64)},
}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change, name)
        for change in CHANGES
        for name in NAMES
        if change != "transposed" or name in ("0.W", "4.W")
    ],
)
def test_error_for_a_tensor_that_does_not_fit_names_it_and_nothing_is_loaded(change, name):
    network = network_of()
    before = network.params.to_host()
    numbers = CHANGES[change](network_of(seed=8).params.to_host(), name)
    with pytest.raises(IncompatibleCheckpointError, match=rf"^{name} "):
        network.params.assign(numbers)
    for other, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, before[other])


@pytest.mark.parametrize("change", ["dropped", "renamed", "broadcastable", "longer", "float32"])
def test_file_with_a_tensor_that_does_not_fit_is_refused_by_load(tmp_path, change):
    save(network_of(), tmp_path / "model")
    rewrite(tmp_path / "model", tensors=lambda numbers: CHANGES[change](numbers, "4.b"))
    with pytest.raises(IncompatibleCheckpointError):
        load(tmp_path / "model", "numpy")


def test_error_for_a_surplus_tensor_names_it():
    network = network_of()
    with pytest.raises(IncompatibleCheckpointError, match=r"^9\.W does not belong"):
        network.params.assign(network.params.to_host() | {"9.W": np.zeros(3)})


@pytest.mark.parametrize("version", [0, 3, 99, "2", None, [2]])
def test_unknown_format_version_is_refused_with_both_numbers(tmp_path, version):
    save(network_of(), tmp_path / "model")
    rewrite(tmp_path / "model", version=version)
    with pytest.raises(IncompatibleCheckpointError, match=r"format version .*; this package reads 1 and 2"):
        load(tmp_path / "model", "numpy")


def deep(depth):
    layers = '[{"class": "Residual", "layers": ' * depth + "[]" + "}]" * depth
    return '{"n_in": 4, "seed": 0, "dtype": "float64", "layers": ' + layers + "}"


DESCRIPTIONS = {
    "no layers": '{"n_in": 4, "dtype": "float64", "seed": 0}', "list": "[]", "null": "null", "text": '"x"',
    "not JSON": "{",
    "negative width": {"n_in": -1}, "wide input": {"n_in": 2**40}, "text as width": {"n_in": "4"},
    "unknown dtype": {"dtype": "float16"},
    "negative seed": {"seed": -1}, "unknown layer": {"layers": [{"class": "Conv"}]},
    "layers as number": {"layers": 3}, "layers as text": {"layers": "Dense"},
    "no class": {"layers": [{"width": 3}]}, "layer as number": {"layers": [3]},
    "huge layer": {"layers": [{"class": "Dense", "width": 2**40}]},
    "huge stack": {"layers": [{"class": "Dense", "width": 2**20}] * 2},
    "infinite layer": {"layers": [{"class": "Dense", "width": 10**400}]},
    "residual of another width": {
        "layers": [{"class": "Residual", "layers": [{"class": "Dense", "width": 9}]}]},
    "deep": deep(200), "very deep": deep(5000), "bottomless": deep(100_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_invalid_architecture_is_refused_using_little_memory(tmp_path, kind):
    save(network_of([Dense(3)]), tmp_path / "model")
    rewrite(tmp_path / "model", description=DESCRIPTIONS[kind])
    with pytest.raises((IncompatibleCheckpointError, CheckpointCorruptError)):
        load(tmp_path / "model", "numpy")


@pytest.mark.parametrize(
    "state", [{"updates": "many"}, {"updates": None}, {"updates": [1]}, {"updates": 10**30}]
)
def test_invalid_number_of_updates_is_refused(tmp_path, state):
    save(network_of([Dense(3)]), tmp_path / "model")
    rewrite(tmp_path / "model", state=lambda old: old | state)
    with pytest.raises(IncompatibleCheckpointError):
        load(tmp_path / "model", "numpy")


@pytest.mark.parametrize("state", [[], None, 3, "x"])
def test_state_that_is_no_object_is_refused(tmp_path, state):
    save(network_of([Dense(3)]), tmp_path / "model")
    rewrite(tmp_path / "model", state=lambda old: state)
    for read in (load, load_extras):
        with pytest.raises(CheckpointCorruptError, match="is damaged: its state is"):
            read(tmp_path / "model")


# ---------------------------------------------------------------------- failures while writing


def output(code, path):
    return subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@POSIX
def test_full_disk_does_not_change_the_old_checkpoint(tmp_path):
    network = network_of()
    save(network, tmp_path / "model")
    code = (
        "import resource, signal, sys\nimport ffnn_gpu\n"
        "network = ffnn_gpu.Network(4, [ffnn_gpu.Dense(5000)], 'numpy')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    ffnn_gpu.save(network, sys.argv[1])\n"
        "except ffnn_gpu.CheckpointError as error:\n    print(error)\n"
    )
    assert "model.safetensors: File too large; the file was not changed" in output(code, tmp_path / "model")
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)
    assert_nothing_beside(tmp_path / "model")


@POSIX
def test_loading_damaged_files_needs_no_more_memory_than_their_size(tmp_path):
    save(network_of([Dense(3)]), tmp_path / "model")
    rewrite(tmp_path / "model", description={"layers": [{"class": "Dense", "width": 2**33}]})
    code = (
        "import resource, sys\nimport ffnn_gpu\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))\n"
        "try:\n    ffnn_gpu.load(sys.argv[1], 'numpy')\n"
        "except ffnn_gpu.CheckpointError as error:\n    print(error)\n"
    )
    assert "the file holds 15 numbers" in output(code, tmp_path / "model")


def test_loaded_network_shares_no_memory_with_the_file(tmp_path):
    network = network_of()
    save(network, tmp_path / "model")
    back = load(tmp_path / "model", "numpy")
    back.params.theta += 1
    assert_equal_networks(load(tmp_path / "model", "numpy"), network)


def test_loaded_layers_equal_the_saved_ones(tmp_path):
    save(network_of(), tmp_path / "model")
    back = load(tmp_path / "model", "numpy")
    assert back == network_of() and back.layers != (replace(LAYERS[0], width=7), *LAYERS[1:])


@pytest.mark.parametrize("layers", [[3], [Dense(2)], int])
def test_layers_that_are_no_classes_are_refused(tmp_path, layers):
    save(Network(4, [Dense(3)], "numpy"), tmp_path / "model")
    with pytest.raises(ConfigurationError, match="layers takes the classes of your own layers"):
        load(tmp_path / "model", "numpy", layers=layers)


def test_one_custom_class_may_be_given_without_a_list(tmp_path):
    class Own(Dense):
        pass

    save(Network(4, [Own(3)], "numpy"), tmp_path / "model")
    assert isinstance(load(tmp_path / "model", "numpy", layers=Own).layers[0], Own)


def test_error_for_a_folder_names_the_checkpoints_in_it(tmp_path):
    save(Network(4, [Dense(3)], "numpy"), tmp_path / "zz" / "last")
    shutil.copytree(OLD / "exact", tmp_path / "zz" / "best")
    (tmp_path / "zz" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "zz", "numpy")
    assert (
        str(caught.value)
        == f"{tmp_path / 'zz'} is not a checkpoint: it is a folder that holds best and last.safetensors"
    )


# ---------------------------------------------------------------------- crashes


@POSIX
@pytest.mark.parametrize("first", [True, False])
def test_crash_between_any_two_system_calls_leaves_the_old_or_the_new_checkpoint(
    tmp_path, monkeypatch, first
):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    old, new, outcomes = network_of([Dense(3)], seed=1), network_of([Dense(3)], seed=2), []
    for crash in crashes(monkeypatch, is_killed):
        path = tmp_path / str(len(outcomes)) / "run" / "last"
        if not first:
            save(old, path)
        crash(lambda path=path: save(new, path))
        outcomes.append(load(path, "numpy").seed if find(path) else None)
        save(new, path)
        assert_equal_networks(load(path, "numpy"), new)
        assert_nothing_beside(path)
    assert len(outcomes) > 5 and set(outcomes) == {None if first else 1, 2}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_error_after_a_failed_system_call_says_whether_the_checkpoint_was_replaced(
    tmp_path, monkeypatch, number
):
    old, new, unchanged = network_of([Dense(3)], seed=1), network_of([Dense(3)], seed=2), []
    for fail_at in range(1, 100):
        path = tmp_path / str(fail_at) / "last"
        save(old, path)

        def fail(k, name, stop=fail_at):
            if k == stop:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            seen = count_calls(patch, fail)
            failure = None
            try:
                save(new, path)
            except CheckpointError as error:
                failure = str(error)
        if len(seen) < fail_at:
            break
        if failure is not None:
            unchanged.append("was not changed" in failure)
            assert unchanged[-1] != ("was replaced" in failure)
            assert os.strerror(number) in failure and f"{path}.safetensors" in failure
        assert load(path, "numpy").seed == (1 if failure and unchanged[-1] else 2)
        save(new, path)
        assert_nothing_beside(path)
    assert fail_at < 99 and unchanged == sorted(unchanged, reverse=True) and {*unchanged} == {True, False}


def test_saving_below_a_file_raises_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match=r"saving .*run\.safetensors: .*; the file was not changed"):
        save(network_of(), tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "x"


def test_old_keyword_of_the_device_is_accepted_with_a_warning(tmp_path):
    network = network_of()
    save(network, tmp_path / "net")
    with pytest.warns(DeprecationWarning, match="backend= is now called device="):
        assert load(tmp_path / "net", backend="numpy") == load(tmp_path / "net", device="numpy") == network
