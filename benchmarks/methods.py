"""Time and memory of a training step of every method, over the bare backbone's and over what its networks must cost.

    python benchmarks/methods.py [--device cuda] [--methods frossl byol ...] [--batch-size 256] [--seconds 10]

Each method is built from its configuration for CIFAR-10. In turn, round by round, are timed

* step: objective, backward pass, optimiser, and the target network's update;
* networks: the same networks on the same views, with the mean of their outputs for a loss (backbone, projector,
  predictor or prototypes forward and backward, the target network forward only), and the optimiser;
* bare: the backbone alone on the same views, all forward, then all backward.

A figure is the median over rounds; ``step / networks`` is what the objective and its bookkeeping cost, at most 1.15.
Memory is the peak during a step beyond what was held before it, over the same for the bare backbone: on a GPU as its
allocator counts it, on a CPU as torch's profiler does.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from solo_frossl.cli.parser import build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS, Method, MomentumMethod, Progress

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
HEADS = ("predictor", "prototypes")


def build(name: str, batch_size: int, device: torch.device) -> tuple[Method, list[Tensor]]:
    """A method as it trains on CIFAR-10, and random views of a batch."""
    parsed = build_cli(
        ["--config", str(CONFIGS / f"cifar10/{name}.yaml"), f"--data.batch_size={batch_size}"],
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=lambda parser: None,
    )
    torch.manual_seed(0)
    built = parsed.instantiate()
    count = sum(view.count for view in built.data.views)
    views = [torch.randn(batch_size, 3, 32, 32, device=device) for _ in range(count)]
    return built.model.to(device), views


def contestants(model: Method, views: list[Tensor]) -> dict[str, Callable[[], None]]:
    """The three things that are timed, by name."""
    optimizer = model.configure_optimizers()
    heads = [head for name in HEADS if isinstance(head := getattr(model, name, None), nn.Module)]

    def finish(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step() -> None:
        finish(model.objective(views).loss)
        if isinstance(model, MomentumMethod):
            model.update_target()

    def networks() -> None:
        _, embeddings = model.embed(views)
        outputs = [head(z) for z in embeddings for head in heads] or embeddings
        if isinstance(model, MomentumMethod):
            model.targets(views, embeddings)
        finish(torch.stack([output.mean() for output in outputs]).sum())

    def bare() -> None:
        torch.stack([model(view).mean() for view in views]).sum().backward()

    model.progress = Progress(step=1, steps_per_epoch=1, total_steps=1000)
    return {"step": step, "networks": networks, "bare": bare}


def measure(name: str, batch_size: int, device: torch.device, seconds: float) -> tuple[dict[str, float], float]:
    """Median seconds of each contestant, and the peak memory of a step over the bare backbone's."""
    model, views = build(name, batch_size, device)
    runs = contestants(model, views)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {key: [] for key in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["bare"]) < 3:
        for key, run in runs.items():
            _synchronize(device)
            start = time.perf_counter()
            run()
            _synchronize(device)
            times[key].append(time.perf_counter() - start)
    memory = _peak(runs["step"], device) / _peak(runs["bare"], device)
    return {key: statistics.median(values) for key, values in times.items()}, memory


def _peak(run: Callable[[], None], device: torch.device) -> float:
    """Bytes at most beyond those held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print one row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda (default cpu)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="which (all)")
    parser.add_argument("--batch-size", type=int, default=256, help="images of a step (default 256)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each method; at least three rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else f"CPU, {args.threads} threads"
    print(f"ResNet-18, CIFAR stem, {args.batch_size} images of 32 px, fp32, {name}, torch {torch.__version__}; medians")
    print(f"{'method':<14}{'step ms':>10}{'/ networks':>12}{'/ bare':>10}{'memory / bare':>15}")
    for method in args.methods:
        times, memory = measure(method, args.batch_size, args.device, args.seconds)
        print(
            f"{method:<14}{1000 * times['step']:>10.1f}{times['step'] / times['networks']:>12.3f}"
            f"{times['step'] / times['bare']:>10.3f}{memory:>15.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
