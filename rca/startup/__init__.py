"""Start-ups of vLLM and SGLang: logs become phases, phases are compared, and related to what was varied."""
