"""vLLM as an engine: in the actor's process (in_process.py) or in processes of its own (async_llm.py)."""
