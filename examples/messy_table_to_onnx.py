"""From a table as people keep it to a file that other programs run: CSV → network → ONNX.

    pip install "ffnn_gpu[tables,onnxruntime]" pandas
    python3 examples/messy_table_to_onnx.py

The table has semicolons, decimal commas, empty cells, postal codes with leading zeros, dates, an id, and a
class for each row. The network reads it as it is. ONNX Runtime then gives the same probabilities.
"""

import csv
import random

import numpy as np
import onnxruntime
import pandas as pd

from ffnn_gpu import export_onnx, train_table

# %% The table


def write_table(path: str, rows: int) -> None:
    """Write a table of parcels. Heavy parcels to far postal codes come late."""
    rng = random.Random(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["parcel", "weight", "zip", "sent", "express", "late"])
        for k in range(rows):
            weight, place = rng.uniform(0.2, 20), rng.choice(["01067", "04109", "80331", "99084"])
            express = rng.random() < 0.3
            late = weight + 6 * (place == "80331") - 8 * express + rng.gauss(0, 1) > 12
            shown = "" if k % 11 == 0 else f"{weight:.2f}".replace(".", ",")
            sent = f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.2025"
            table.writerow(
                [9000 + k, shown, place, sent, "yes" if express else "no", "late" if late else "on time"]
            )


# %% From the file to a network
# Every column gets a kind. The id is left out, with a reason.

write_table("parcels.csv", 600)
trained = train_table("parcels.csv", "late", model="mlp", epochs=30, verbose=0)
model = trained.model
print(f"columns that the network reads: {', '.join(encoder.name for encoder in model.encoding.encoders)}")
print(f"left out: {trained.left_out}")
print(f"accuracy on {trained.rows['test']} test rows: {trained.test['accuracy']:.3f}")

# %% The same probabilities elsewhere
# The ONNX file reads raw columns: it has the encoding.

export_onnx(model, "parcels.onnx")
new = pd.DataFrame(
    {
        "weight": [1.5, 19.0, np.nan],
        "zip": ["04109", "80331", "99084"],
        "sent": pd.to_datetime(["2025-03-01", "2025-07-09", "2025-12-24"]),
        "express": ["yes", "no", "no"],
    }
)
ours = model.probabilities(new)

session = onnxruntime.InferenceSession("parcels.onnx")
inputs = {}
for each in session.get_inputs():
    column = new[each.name]
    if each.name == "sent":  # ONNX cannot read dates: seconds since 1970
        column = (column - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    inputs[each.name] = column.to_numpy(float if "double" in each.type else object).reshape(-1, 1)
theirs = session.run(["probabilities"], inputs)[0]
print(f"classes {', '.join(model.task.labels.classes)}\n{np.round(ours, 3)}")
print(f"largest difference to ONNX Runtime: {abs(ours - theirs).max():.1e}")
