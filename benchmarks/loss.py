"""Time of FroSSL's forward and backward pass beside its rivals', as ratios within one run.

    python benchmarks/loss.py [--device cuda] [--samples 64 256] [--dimensions 512 2048] [--threads 1] [--seconds 3]

For every batch size N and dimension D, two views of N x D float32 embeddings go through each objective, forward and
backward, in turn; a figure is the median over rounds. FroSSL stands against

* its products: the four matrix products of min(N, D)^2 max(N, D) that it cannot do without, and nothing else;
* Barlow Twins: the one of this package, a D x D correlation;
* VICReg: invariance, hinge and off-diagonal covariance, D x D a view (Bardes et al. 2022, Eq. 1-6);
* log-det: log-determinant of a D x D covariance a view, by Cholesky, and the distance (CorInfoMax, Ozsoy et al. 2022).

The last two are written here in a few lines of autograd. At small N and D the time is that of launching operations, not
of arithmetic; the ratio to the products then says how many there are.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from solo_frossl.losses import barlow_twins_loss, frossl_loss


def vicreg_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """VICReg, weights 25, 25, 1, on ``(N, D)`` embeddings."""
    loss = 25 * (z1 - z2).square().mean()
    for z in (z1, z2):
        centred = z - z.mean(0)
        covariance = centred.T @ centred / (len(z) - 1)
        diagonal = covariance.diagonal()
        loss = loss + 25 * (1 - (diagonal + 1e-4).sqrt()).relu().mean()
        loss = loss + (covariance.square().sum() - diagonal.square().sum()) / z.shape[1]
    return loss


def log_determinant_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """CorInfoMax without its running average, on ``(N, D)`` embeddings; small eigenvalues are lifted by 1e-2."""
    loss = 250 * (z1 - z2).square().mean()
    for z in (z1, z2):
        centred = z - z.mean(0)
        covariance = centred.T @ centred / len(z)
        factor = torch.linalg.cholesky(covariance + 1e-2 * torch.eye(z.shape[1], device=z.device))
        loss = loss - 2 * factor.diagonal().log().sum() / z.shape[1]
    return loss


def products(z1: Tensor, z2: Tensor) -> None:
    """For each view the smaller Gram matrix, and its product with the view."""
    for z in (z1.detach(), z2.detach()):
        if len(z) < z.shape[1]:
            (z @ z.T) @ z
        else:
            z @ (z.T @ z)


def forward_backward(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], None]:
    """The objective and its gradient."""
    return lambda z1, z2: torch.autograd.grad(loss(z1, z2), (z1, z2))


CONTESTANTS = {
    "products": products,
    "FroSSL": forward_backward(lambda *views: frossl_loss(views)),
    "Barlow Twins": forward_backward(barlow_twins_loss),
    "VICReg": forward_backward(vicreg_loss),
    "log-det": forward_backward(log_determinant_loss),
}


def measure(samples: int, dimensions: int, device: torch.device, seconds: float) -> dict[str, float]:
    """Median time of each contestant, in seconds; each round runs all of them once."""
    z1, z2 = (torch.randn(samples, dimensions, device=device, requires_grad=True) for _ in range(2))
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    end = None
    while end is None or time.perf_counter() < end or len(times["FroSSL"]) < 3:
        for name, contestant in CONTESTANTS.items():
            _synchronize(device)
            start = time.perf_counter()
            contestant(z1, z2)
            _synchronize(device)
            times[name].append(time.perf_counter() - start)
        if end is None:  # the first round only warms up
            end = time.perf_counter() + seconds
            times = {name: [] for name in CONTESTANTS}
    return {name: statistics.median(values) for name, values in times.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print one row for each N and D."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda (default cpu)")
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256, 1024], help="batch sizes N")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 1024, 2048, 8192], help="dimensions D")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each N and D; at least three rounds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.empty(31 << 20, dtype=torch.uint8)  # freed at once: the allocator then keeps blocks, as it does in training

    name = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else f"CPU, {args.threads} threads"
    print(f"float32, two views, {name}, torch {torch.__version__}; medians; ratios are FroSSL over the other")
    print(
        f"{'N':>5} {'D':>5} {'FroSSL ms':>10}" + "".join(f"{other:>14}" for other in CONTESTANTS if other != "FroSSL")
    )
    for samples in args.samples:
        for dimensions in args.dimensions:
            times = measure(samples, dimensions, args.device, args.seconds)
            ratios = [times["FroSSL"] / times[other] for other in CONTESTANTS if other != "FroSSL"]
            row = "".join(f"{ratio:>14.3f}" for ratio in ratios)
            print(f"{samples:>5} {dimensions:>5} {1000 * times['FroSSL']:>10.2f}{row}", flush=True)


if __name__ == "__main__":
    main()
