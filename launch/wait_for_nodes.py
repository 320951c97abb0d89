"""Wait until a Ray cluster has a number of nodes: `python -m launch.wait_for_nodes ADDRESS NODES [SECONDS]`.

Nodes join one after another, and a run counts the cluster's resources only once.
"""

import subprocess
import sys
import time

COUNT_NODES = """import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))"""


def main(address: str, nodes: int, seconds: float = 600.0) -> int:
    """Return an exit status: 0 as soon as the nodes have joined, 1 if they do not join in time."""
    end = time.monotonic() + seconds
    state = ""
    while time.monotonic() < end:
        # In a new process each time, because Ray tries only once per process to reach a head node.
        look = subprocess.run([sys.executable, "-c", COUNT_NODES, address], capture_output=True, text=True)
        if look.returncode == 0:
            joined = int(look.stdout.split()[-1])
            state = f"{joined} of {nodes} nodes"
            if joined >= nodes:
                print(f"wait_for_nodes: {state} at {address}")
                return 0
        elif "InvalidAuthToken" in look.stderr:
            fix = "set RAY_AUTH_MODE=token, with the head node's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            print(f"wait_for_nodes: {address} wants its token: {fix}", file=sys.stderr)
            return 1
        else:
            state = (look.stderr.strip().splitlines() or ["no answer"])[-1]
        time.sleep(2)
    print(f"wait_for_nodes: not within {seconds:g} s at {address}: {state}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("usage: python -m launch.wait_for_nodes ADDRESS NODES [SECONDS]")
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *(float(word) for word in sys.argv[3:])))
