"""The smallest program: one function that runs in a container."""

import platform

import modal

app = modal.App("hello", image=modal.Image.debian_slim())


@app.function()
def greet(name: str) -> str:
    print(f"greeting {name} from a container")
    return f"Hello, {name}! This is Python {platform.python_version()} on {platform.node()}."


@app.local_entrypoint()
def main(name: str = "world") -> None:
    print(greet.remote(name))
