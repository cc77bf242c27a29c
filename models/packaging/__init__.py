"""The files of a trained network: ONNX, half precision, scores and figures."""
