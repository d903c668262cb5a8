"""Settings come from files, the environment and flags, in a fixed order of precedence."""

import os
import sys
import tomllib

import pytest

from ffnn_gpu.cli.settings import (
    FIELDS,
    TrainConfig,
    differences,
    given_values,
    help_of,
    read_toml,
    resolve,
    write_toml,
)
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model_choice import decided


def resolved(flags=None, **sources):
    return resolve({"data": "digits", **(flags or {})}, **{"environment": {}, **sources})


def toml(folder, text):
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_default_settings_equal_the_defaults_of_trainconfig():
    assert resolved() == TrainConfig(data="digits")


def test_later_source_of_a_setting_takes_precedence(tmp_path):
    (tmp_path / "old").mkdir()
    sources = {
        "resumed": toml(tmp_path / "old", 'device = "a"\nepochs = 1\nseed = 1\nlr = 1.0\ndropout = 0.5'),
        "file": toml(tmp_path, 'device = "b"\nepochs = 2\nseed = 2\nlr = 2.0'),
        "environment": {"FFNN_GPU_DEVICE": "numpy"},
        "assignments": ["epochs=4", "seed=4"],
    }
    found = resolved({"epochs": "5", "lr": None}, **sources)
    assert (found.epochs, found.seed, found.device, found.lr, found.dropout) == (5, 4, "numpy", 2.0, 0.5)


@pytest.mark.parametrize(("epochs", "model"), [(30, "tabular"), (3, "mlp")])
def test_settings_that_a_run_left_at_their_default_do_not_decide_the_model_again(tmp_path, epochs, model):
    run = tmp_path / "config.toml"
    write_toml(TrainConfig(data="t.csv", model="mlp", epochs=epochs), run)
    given = given_values({}, ["model=auto"], run, environment={})
    assert decided(TrainConfig(**given), given, True).model == model
    written = given_values({}, file=toml(tmp_path, 'data = "t.csv"\nepochs = 30'), environment={})
    assert decided(TrainConfig(**written), written, True).model == "mlp"


def test_flag_for_the_device_takes_precedence_over_the_environment():
    assert resolved({"device": "cupy"}, environment={"FFNN_GPU_DEVICE": "numpy"}).device == "cupy"


def test_old_variable_for_the_device_is_read_with_a_warning():
    with pytest.warns(DeprecationWarning, match="FFNN_GPU_BACKEND is now called FFNN_GPU_DEVICE"):
        assert resolved(environment={"FFNN_GPU_BACKEND": "numpy"}).device == "numpy"


def test_empty_environment_variable_is_ignored():
    assert resolved(environment={"FFNN_GPU_DEVICE": ""}).device == "auto"


@pytest.mark.parametrize(
    ("text", "widths"), [("256,128", (256, 128)), (" 8 , 4,", (8, 4)), ("7", (7,)), ("", ())]
)
def test_widths_are_numbers_separated_by_commas(text, widths):
    assert resolved({"hidden": text}).hidden == widths
    assert resolved(assignments=[f"hidden={[*widths]}", "metrics=['accuracy']"]).hidden == widths


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "ten"}, "epochs = 'ten' is not accepted: expected int"),
        ({"epochs": "0"}, "epochs = '0' is not accepted: expected int >= 1"),
        ({"hidden": "8,x"}, "hidden = '8,x' is not accepted: expected int"),
        ({"hidden": "8,0"}, "hidden = '8,0' is not accepted: expected int >= 1"),
        ({"dropout": "1.0"}, "dropout = '1.0' is not accepted: expected float < 1.0"),
        ({"normalization": "bach"}, "normalization = 'bach' is not accepted: choose none, layer, batch"),
        ({"class_weight": "even"}, "class_weight = 'even' is not accepted: choose balanced"),
        ({"lr": "fast"}, "lr = 'fast' is not accepted: expected float"),
        ({"epohcs": "3"}, "unknown setting 'epohcs'; did you mean 'epochs'?"),
    ],
)
def test_error_for_a_wrong_flag_names_the_accepted_values(settings, message):
    with pytest.raises(ConfigurationError) as caught:
        resolved(settings)
    assert str(caught.value) == message


def test_values_in_a_file_have_their_toml_types(tmp_path):
    with pytest.raises(ConfigurationError, match=r"run\.toml: epochs = '10' is not accepted: expected int$"):
        resolved(file=toml(tmp_path, 'epochs = "10"'))
    with pytest.raises(
        ConfigurationError, match=r"run\.toml: standardize = 1 is not accepted: expected bool$"
    ):
        resolved(file=toml(tmp_path, "standardize = 1"))
    with pytest.raises(
        ConfigurationError, match=r"run\.toml: unknown setting 'batch-size'; did you mean 'batch_size'\?"
    ):
        resolved(file=toml(tmp_path, "batch-size = 10"))
    with pytest.raises(ConfigurationError, match="unknown setting 'train'; the settings are data, target, "):
        resolved(file=toml(tmp_path, "[train]\nepochs = 10"))


@pytest.mark.parametrize(
    ("content", "message"), [(b"epochs = ", "is not a TOML file"), (b"\xff", "is not a TOML file")]
)
def test_error_for_a_file_that_is_not_toml_names_it(tmp_path, content, message):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"run\.toml {message}"):
        resolved(file=tmp_path / "run.toml")
    with pytest.raises(ConfigurationError, match=r"other\.toml cannot be read"):
        resolved(file=tmp_path / "other.toml")


def test_assignment_is_one_toml_value_or_a_bare_word():
    assert resolved(assignments=["lr=0.5", 'activation="tanh"', "early_stopping = 3"]).early_stopping == 3
    found = resolved(assignments=["activation=tanh", "device = cupy:1", "hidden=8,4", "target=a-b.c"])
    assert (found.activation, found.device, found.hidden, found.target) == ("tanh", "cupy:1", (8, 4), "a-b.c")
    with pytest.raises(ConfigurationError, match="epochs = 'many' is not accepted: expected int"):
        resolved(assignments=["epochs=many"])
    with pytest.raises(
        ConfigurationError, match="--set hidden=\\[8: write NAME=VALUE with a TOML value or a bare word"
    ):
        resolved(assignments=["hidden=[8"])
    with pytest.raises(
        ConfigurationError, match="--set lr: write NAME=VALUE with a TOML value or a bare word"
    ):
        resolved(assignments=["lr"])


def test_missing_data_setting_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="no data to train on"):
        resolve({"data": None}, environment={})
    assert resolve({"data": None}, file=toml(tmp_path, 'data = "wine"'), environment={}).data == "wine"


def test_written_configuration_reads_back_equal_except_the_folder(tmp_path):
    config = resolved({"hidden": "4,2", "lr": "0.1", "target": "price", "out": "runs/x", "metrics": "mae,r2"})
    write_toml(config, tmp_path / "config.toml")
    again = resolve({}, file=tmp_path / "config.toml", environment={})
    assert [*differences(config, again)] == ["out 'runs/x' → None"]
    assert [*differences(config, again, ignored=["out"])] == []
    assert read_toml(tmp_path / "config.toml") == tomllib.loads((tmp_path / "config.toml").read_text("utf-8"))


def test_every_setting_has_a_description_and_shows_its_default():
    for name in FIELDS:
        assert "None" not in help_of(name)[0]
    assert help_of("hidden") == ("widths of the hidden layers; empty for a linear model  [512,256]", "VALUE")
    assert help_of("dropout")[0].endswith("default: 0.4, for a regression 0.1") and "5.0" in help_of("cut")[0]
    assert help_of("normalization")[1] == "none|layer|batch"
    assert help_of("class_weight")[1] == "balanced"
    assert help_of("standardize")[1] == "" and help_of("standardize")[0].endswith("[on]")


@pytest.mark.parametrize("name", ["lr", "cut", "weight_decay", "l1", "clip_norm"])
@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_number_that_is_not_finite_is_refused(tmp_path, name, value):
    for given in (
        {"flags": {name: value}},
        {"assignments": [f"{name}={value}"]},
        {"file": toml(tmp_path, f"{name} = {value}")},
    ):
        with pytest.raises(ConfigurationError, match=rf"{name} = .*{value}.* is not accepted: expected"):
            resolved(**given)


def test_single_value_of_a_list_needs_no_brackets(tmp_path):
    assert resolved(file=toml(tmp_path, "hidden = 8\nmetrics = 'accuracy'")).hidden == (8,)
    assert resolved(assignments=["hidden=8"]).hidden == (8,) == resolved({"hidden": 8}).hidden
    with pytest.raises(ConfigurationError, match="hidden = True is not accepted"):
        resolved(file=toml(tmp_path, "hidden = true"))


@pytest.mark.parametrize("text", ["false", "False", "FALSE"])
def test_truth_is_set_in_any_case(text):
    assert resolved(assignments=[f"standardize={text}"]).standardize is False
    assert resolved(assignments=["shard_optimizer=True"]).shard_optimizer is True
    with pytest.raises(ConfigurationError, match="standardize = 'no' is not accepted"):
        resolved(assignments=["standardize=no"])


def test_byte_order_mark_is_no_part_of_the_settings(tmp_path):
    path = tmp_path / "mark.toml"
    path.write_text('\ufeffdata = "iris"\n', encoding="utf-8")
    assert resolve({}, file=path, environment={}).data == "iris"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_settings_in_utf_16_are_refused_with_the_remedy(tmp_path, encoding):
    path = tmp_path / "wide.toml"
    path.write_text('data = "iris"\n', encoding=encoding)
    with pytest.raises(ConfigurationError, match="is no UTF-8 text, but perhaps UTF-16; save it as UTF-8"):
        read_toml(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_settings_are_read_from_a_pipe():
    reader, writer = os.pipe()
    os.write(writer, b'data = "iris"\nhidden = [4]\n')
    os.close(writer)
    assert resolve({}, file=f"/dev/fd/{reader}", environment={}).hidden == (4,)
    os.close(reader)


@pytest.mark.parametrize("value", ["rows\udcff.csv", "\ud800"])
def test_name_that_is_no_utf8_is_refused(tmp_path, value):
    with pytest.raises(
        ConfigurationError, match=r"^data = '.*\\ud.* is no UTF-8 text, which config.toml needs"
    ):
        write_toml(TrainConfig(data=value), tmp_path / "config.toml")
    assert [*tmp_path.iterdir()] == []
