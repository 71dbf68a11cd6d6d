"""onnxruntime as the reference: it shares no code with chiplan."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from chiplan.ir import BadInput, Problem

_ERRORS_ONLY = 3


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY + 1
    # One thread and no fusions: the same sums in the same order on every machine.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.use_deterministic_compute = True
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    wanted = {value.name for value in session.get_inputs()}
    fed = {name: array for name, array in inputs.items() if name in wanted}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def run_original(model_path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of the model file on `inputs`.

    Raises BadInput (`reference_failed`) when onnxruntime cannot run it, say because weights are absent.
    """
    try:
        return _run(_session(str(model_path)), inputs)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        message = (
            f"{Path(model_path).name}: onnxruntime cannot run the model, so there is no reference: {reason}"
        )
        raise BadInput(Problem("reference_failed", message)) from error


def run_exported(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a model in memory, below 2 GB."""
    return _run(_session(model.SerializeToString(deterministic=True)), inputs)
