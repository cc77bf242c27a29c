"""From a trained network to its files: ONNX, half precision, scores and pictures."""
