"""ONNX Runtime: inference of the same network, with a graph built by the package `onnx`."""

from benchmarks.contenders import Program
from benchmarks.jobs import batch, weights


def predict(job, variant):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(model(job), options, providers=["CPUExecutionProvider"])
    x, _ = batch(job)
    return Program(lambda: session.run(None, {"x": x})[0])


def model(job):
    """Return the graph x → Gemm → Relu → … → Gemm → z as bytes."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, numbers, last = [], [], len(job.widths) - 2
    for k, (W, b) in enumerate(weights(job)):
        numbers += [numpy_helper.from_array(W, f"W{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(
            helper.make_node(
                "Gemm", [f"a{k}" if k else "x", f"W{k}", f"b{k}"], ["z" if k == last else f"s{k}"]
            )
        )
        if k < last:
            nodes.append(helper.make_node("Relu", [f"s{k}"], [f"a{k + 1}"]))
    x, z = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width])
        for name, width in (("x", job.widths[0]), ("z", job.widths[-1]))
    )
    graph = helper.make_graph(nodes, "network", [x], [z], numbers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
