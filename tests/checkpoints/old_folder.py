"""Write checkpoints as versions before format 2 did, byte for byte, to read them in tests."""

import json

import safetensors.numpy

from ffnn_gpu.checkpoints import old_format, tensor_file


def sealed(state):
    """Return the bytes of a state.json with a valid checksum."""
    sums = {name: digest for name, digest in state["sha256"].items() if name != "state.json"}
    own = old_format._sha256(old_format._dump(state | {"sha256": sums}))
    return old_format._dump(state | {"sha256": sums | {"state.json": own}})


def aged(file):
    """Replace a checkpoint NAME.safetensors by the folder NAME of format 1."""
    arrays, values = tensor_file.read(file)
    numbers = {name: array for name, array in arrays.items() if name[0].isdigit()}
    others = {name: array for name, array in arrays.items() if name not in numbers}
    files = {
        "model.safetensors": safetensors.numpy.save(
            numbers, {"architecture": json.dumps(values["architecture"])}
        )
    }
    if others:
        files["optimizer.safetensors"] = safetensors.numpy.save(others)
    state = values["state"] | {
        "format": 1,
        "bytes": {name: len(content) for name, content in files.items()},
        "sha256": {name: old_format._sha256(content) for name, content in files.items()},
    }
    file.unlink()
    folder = file.with_suffix("")
    folder.mkdir()
    for name, content in {**files, "state.json": sealed(state)}.items():
        (folder / name).write_bytes(content)
    return folder
