"""The library's layers, as a test and a page have them."""

LAYERS = (
    ("errors", "seeds"),
    ("files", "sampling", "sections"),
    ("corpus", "text", "history"),
    ("model",),
    ("evaluation", "optimization", "generation", "params"),
    ("training", "onnx_export", "interpretation"),
    ("tracking", "report"),
    ("language_model",),
)
