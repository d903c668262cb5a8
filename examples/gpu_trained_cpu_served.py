"""Train on a GPU if there is one, and serve on a CPU with onnxruntime alone.

    python3 examples/gpu_trained_cpu_served.py [FOLDER]

`train` needs this package, `serve` needs NumPy and onnxruntime only: the ONNX file reads raw columns, also
with empty cells and with words that no training row had, and returns labels and probabilities.
"""

import csv
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

# %% A made-up table


def write_table(path: Path, rows: int, seed: int) -> None:
    """Write a made-up table of flats: which of them are let within a week."""
    rng = random.Random(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["rooms", "rent", "district", "balcony", "let"])
        for _ in range(rows):
            rooms, balcony = rng.randint(1, 6), rng.choice(["yes", "no"])
            district = rng.choice(["North", "East", "Old Town"])
            rent = 300 * rooms + rng.gauss(200, 150)
            wanted = 350 * rooms + 150 * (balcony == "yes") + 200 * (district == "Old Town")
            said = "" if rng.random() < 0.1 else f"{rent:.0f}"  # some offers do not say it
            table.writerow([rooms, said, district, balcony, "soon" if rent < wanted else "later"])


# %% Training: any device


def train(table: Path, folder: Path) -> Path:
    """Train on any device and return the ONNX file."""
    from ffnn_gpu import Model, export_onnx
    from ffnn_gpu.cli.settings import TrainConfig
    from ffnn_gpu.cli.train import train

    config = TrainConfig(data=str(table), target="let", model="mlp", out=str(folder / "run"), device="auto")
    done = train(config, announce=print, verbose=0)
    print(f"test accuracy {done.report['test']['accuracy']:.3f}")
    export_onnx(Model.load(folder / "run"), folder / "flats.onnx")
    return folder / "flats.onnx"


# %% Serving: NumPy and onnxruntime


def serve(file: Path, rows: list[dict[str, str]]) -> tuple[list[str], np.ndarray]:
    """Return the labels and probabilities of rows of texts, as csv.DictReader reads them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = {}
    for column in session.get_inputs():
        cells = [row[column.name] for row in rows]
        is_number = column.type == "tensor(double)"
        values = [float(cell or "nan") for cell in cells] if is_number else cells
        inputs[column.name] = np.array(values, float if is_number else object).reshape(-1, 1)
    label, probabilities = session.run(["label", "probabilities"], inputs)
    return label.tolist(), probabilities


# %% Both, and a comparison


def main(folder: Path) -> None:
    """Train, export, serve, and compare with the model that was trained."""
    from ffnn_gpu import Model

    write_table(folder / "flats.csv", 600, seed=1)
    file = train(folder / "flats.csv", folder)
    write_table(folder / "offers.csv", 50, seed=2)
    with open(folder / "offers.csv", newline="", encoding="utf-8") as offers:
        rows = [*csv.DictReader(offers)]
    rows[0]["district"] = "Harbour"  # which no training row had
    label, probabilities = serve(file, rows)
    model, columns = Model.load(folder / "run"), {name: [row[name] for row in rows] for name in rows[0]}
    assert label == model.predict(columns).tolist()
    furthest = np.abs(probabilities - model.probabilities(columns)).max()
    print(f"{len(rows)} offers served; the probabilities differ by at most {furthest:.1e}")


if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
