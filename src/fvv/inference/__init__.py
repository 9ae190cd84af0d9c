"""Running trained models with onnxruntime; torch is never needed here."""
