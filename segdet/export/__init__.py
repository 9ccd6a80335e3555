"""The cascade without PyTorch: as ONNX, in other engines (chapter 09)."""
