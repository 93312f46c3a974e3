"""The library's layers, as a test and a page have them."""

LAYERS = (
    ("errors", "seeds"),
    ("files", "sampling", "sections"),
    ("text", "params"),
    ("model",),
    ("evaluation", "optimization", "generation"),
    ("training", "onnx_export", "interpretation"),
    ("tracking", "report"),
    ("language_model",),
)
