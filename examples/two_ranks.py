"""Train one network in several processes, each with its share of every batch.

    pip install "ffnn_gpu[mpich,sklearn]"
    mpiexec -n 2 python -m mpi4py examples/two_ranks.py
    python examples/two_ranks.py                               the same in one process

Both print the same losses: `batch_size` is the batch of all processes together.
"""

from sklearn.datasets import load_digits

from ffnn_gpu import Dense, Network, fit
from ffnn_gpu.distributed import communicator

# %% Every process runs these lines

ranks = communicator()  # of one process, if mpiexec did not start this one
X, y = load_digits(return_X_y=True)
network = Network(64, [Dense(64, "relu"), Dense(10)], device=ranks.device, dtype="float64", seed=0)
history = fit(
    network,
    "softmax_cross_entropy",
    "adam",
    (X / 16, y),
    epochs=3,
    batch_size=128,
    communicator=ranks,
    verbose=0,
)
# %% One of them prints

if ranks.rank == 0:
    for epoch, loss in enumerate(history["loss"], 1):
        print(f"epoch {epoch}: loss {loss:.12f}")
