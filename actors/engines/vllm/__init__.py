"""The vLLM engine: in the actor's process (in_process.py) or in separate processes (async_llm.py)."""
