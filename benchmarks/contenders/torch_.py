"""PyTorch: eager, eager with fused Adam, the whole step compiled, on a GPU also in a CUDA graph.

The compiled step uses torch.compile(mode="max-autotune"). bfloat16 is autocast with float32 weights, and TF32
is PyTorch's own option.

Reference: PyTorch documentation, "CUDA Graphs" (whole-network capture), torch.compile, torch.optim.Adam.
"""

from benchmarks.contenders import Program
from benchmarks.jobs import batch, pictures, weights


def train(job, variant):
    x, y = on_device(job, *batch(job))
    step, restart = training_step(job, variant)
    if variant != "graph":
        return program(job, lambda: step(x, y))
    graph, value = captured(job, lambda: step(x, y))
    restart()

    def launch():
        graph.replay()
        return value

    return program(job, launch, job.K)


def predict(job, variant):
    torch = library(job)
    network = model(job)
    if variant == "compile":
        network.compile(mode="max-autotune")
    x, _ = on_device(job, *batch(job))

    @torch.inference_mode()
    def forward():
        with autocast(job):
            return network(x)

    if variant != "graph":
        return program(job, forward)
    graph, z = captured(job, forward)

    def launch():
        graph.replay()
        return z

    return program(job, launch, job.K)


def epoch(job, variant):
    """Make one pass over the data.

    Why no DataLoader: it collates row by row in Python. Indexing by a permutation is several times faster.
    """
    torch = library(job)
    step, _ = training_step(job, variant)
    pixels, labels = map(torch.from_numpy, pictures(job))
    if variant == "graph":
        step = replayed(job, step)

    def launch():
        x, y = pixels.to(job.device).float().div_(255), labels.to(job.device)
        for index in torch.randperm(len(x), device=job.device).split(job.B):
            value = step(x[index], y[index])
        return value

    return program(job, launch)


def training_step(job, variant):
    """Return ((x, y) → loss, a function that resets weights and moments)."""
    torch = library(job)
    network = model(job)
    compiled = variant == "compile"
    capturable = variant == "graph" or (compiled and job.device == "cuda")
    fused = True if variant in ("fused", "graph") else None  # None: PyTorch's own choice
    adam = torch.optim.Adam(network.parameters(), lr=job.lr, fused=fused, capturable=capturable)

    def step(x, y):
        adam.zero_grad(set_to_none=True)
        with autocast(job):
            loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        adam.step()
        return loss.detach()

    def restart():
        network.load_state_dict(model(job).state_dict())
        for state in adam.state.values():
            for tensor in state.values():
                tensor.zero_()

    if not compiled:
        return step, restart
    fast = torch.compile(step, mode="max-autotune")

    def marked(x, y):
        torch.compiler.cudagraph_mark_step_begin()  # the last step's loss may be overwritten
        return fast(x, y)

    return marked, restart


def captured(job, work):
    """Return K calls of `work` as one CUDA graph, and the result of the last call."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm-up: loads libraries and creates the optimizer's state
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(job.K):
            value = work()
    return graph, value


def replayed(job, step):
    """Return a step that replays a graph on full batches and runs eagerly on the last one."""
    import torch

    x = torch.zeros((job.B, job.widths[0]), device=job.device)
    y = torch.zeros((job.B,), dtype=torch.int64, device=job.device)
    graph, value = captured(job, lambda: step(x, y))

    def run(rows, labels):
        if len(rows) < job.B:
            return step(rows, labels)
        x.copy_(rows)
        y.copy_(labels)
        graph.replay()
        return value

    return run


def model(job):
    import torch

    layers = []
    for W, b in weights(job):
        linear = torch.nn.utils.skip_init(torch.nn.Linear, *W.shape)
        linear.load_state_dict({"weight": torch.from_numpy(W.T.copy()), "bias": torch.from_numpy(b)})
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).to(job.device)


def library(job):
    """Return the module torch, set to the job's threads and precision."""
    import torch

    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision("high" if job.precision == "tf32" else "highest")
    return torch


def autocast(job):
    """Return the autocast context of the job.

    Why no cache: each weight is cast once per pass anyway, and a capture must not reuse a cast made before
    it.
    """
    import torch

    return torch.autocast(
        job.device, torch.bfloat16, enabled=job.precision == "bfloat16", cache_enabled=False
    )


def on_device(job, x, y):
    import torch

    return torch.from_numpy(x).to(job.device), torch.from_numpy(y).to(job.device)


def program(job, launch, steps=1):
    import torch

    def wait(result):
        if job.device == "cuda":
            torch.cuda.synchronize()

    return Program(launch, wait, lambda result: result.detach().float().cpu().numpy(), steps)
