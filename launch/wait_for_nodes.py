"""`python -m launch.wait_for_nodes ADDRESS NODES [SECONDS]`: ends once so many nodes are in the cluster. Nodes come up one after another,
and a run looks only once at what there is."""

import subprocess
import sys
import time

LOOK = """import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))"""


def main(address: str, nodes: int, seconds: float = 600.0) -> int:
    """Returns an exit status: 1 if they are not there in time."""
    end = time.monotonic() + seconds
    said = ""
    while time.monotonic() < end:
        # In a process of its own: Ray tries to reach a head that is not there yet once in a process's life.
        look = subprocess.run([sys.executable, "-c", LOOK, address], capture_output=True, text=True)
        if look.returncode == 0:
            there = int(look.stdout.split()[-1])
            said = f"{there} of {nodes} nodes"
            if there >= nodes:
                print(f"wait_for_nodes: {said} at {address}")
                return 0
        elif "InvalidAuthToken" in look.stderr:
            fix = "set RAY_AUTH_MODE=token, with the head node's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            print(f"wait_for_nodes: {address} wants its token: {fix}", file=sys.stderr)
            return 1
        else:
            said = (look.stderr.strip().splitlines() or ["no answer"])[-1]
        time.sleep(2)
    print(f"wait_for_nodes: not within {seconds:g} s at {address}: {said}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("usage: python -m launch.wait_for_nodes ADDRESS NODES [SECONDS]")
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *(float(word) for word in sys.argv[3:])))
