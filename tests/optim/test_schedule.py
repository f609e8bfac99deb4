from itertools import pairwise

import pytest
import torch
from torch import nn

from solo_frossl.optim import ScheduleConfig, learning_rate, set_learning_rate


def curve(config, peak=1.0, steps_per_epoch=10, epochs=30):
    total = steps_per_epoch * epochs
    return [learning_rate(config, peak, step, steps_per_epoch, total) for step in range(total + 1)]


def torch_curve(scheduler, count, peak=1.0, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], peak)
    schedule = scheduler(optimizer, **options)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


class TestWarmup:
    @pytest.mark.parametrize("name", ["warmup_cosine", "step", "warm_restarts", "constant"])
    @pytest.mark.parametrize("epochs", [0.05, 0.25, 2, 2.37])
    def test_rises_in_a_line_to_the_peak_and_not_beyond(self, name, epochs):
        config = ScheduleConfig(name=name, warmup_epochs=epochs, milestones=[20])
        rates = curve(config, peak=0.3)
        assert rates[0] == pytest.approx(3e-5, rel=1e-12)
        warmup = epochs * 10
        for step, rate in enumerate(rates):
            if step < warmup:
                assert rate == pytest.approx(3e-5 + (0.3 - 3e-5) * step / warmup, rel=1e-12)
        assert max(rates) <= 0.3
        first = int(-(-warmup // 1))  # the first step at or after the warm-up
        assert rates[first] == pytest.approx(0.3, rel=1e-2)

    def test_of_zero_epochs_starts_every_group_at_its_own_peak(self):
        config = ScheduleConfig(warmup_epochs=0)
        assert [learning_rate(config, peak, 0, 10, 300) for peak in (0.3, 0.1, 1e-6)] == [0.3, 0.1, 1e-6]

    def test_longer_than_the_run_goes_on_rising(self):
        rates = curve(ScheduleConfig(warmup_epochs=50), epochs=3)
        assert rates == sorted(rates)
        assert rates[-1] == pytest.approx(3 / 50, rel=1e-2)

    def test_exactly_as_long_as_the_run_ends(self):
        assert learning_rate(ScheduleConfig(warmup_epochs=3), 1.0, 30, 10, 30) == 0.0

    def test_never_starts_above_the_peak(self):
        assert set(curve(ScheduleConfig(name="constant", warmup_epochs=2), peak=1e-6)) == {1e-6}


class TestCosine:
    def test_falls_from_the_peak_to_the_end_without_a_jump(self):
        rates = curve(ScheduleConfig(warmup_epochs=10, final_lr=0.01), peak=0.3)
        assert rates[100] == 0.3
        assert all(a > b for a, b in pairwise(rates[100:]))
        assert rates[300] == pytest.approx(0.01, rel=1e-12)
        assert 0.01 < rates[299] < 0.0101  # the last step still learns
        assert max(abs(a - b) for a, b in pairwise(rates)) <= 0.3 / 100

    def test_is_that_of_torch(self):
        expected = torch_curve(torch.optim.lr_scheduler.CosineAnnealingLR, 300, T_max=300, eta_min=0.01)
        config = ScheduleConfig(warmup_epochs=0, final_lr=0.01)
        assert curve(config)[:300] == pytest.approx(expected, rel=1e-9)

    def test_stays_at_its_end(self):
        assert learning_rate(ScheduleConfig(final_lr=0.01), 1.0, 1000, 10, 300) == pytest.approx(0.01, rel=1e-12)

    def test_never_ends_above_the_peak(self):
        assert max(curve(ScheduleConfig(warmup_epochs=0, final_lr=0.5), peak=0.1)) == pytest.approx(0.1)


class TestWarmRestarts:
    @pytest.mark.parametrize("period", [5, 2.5])
    def test_are_those_of_torch(self, period):
        expected = torch_curve(
            torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, 300, T_0=int(period * 10), eta_min=0.01
        )
        config = ScheduleConfig(name="warm_restarts", warmup_epochs=0, restart_epochs=period, final_lr=0.01)
        assert curve(config)[:300] == pytest.approx(expected, rel=1e-9)

    def test_count_from_the_end_of_the_warm_up(self):
        rates = curve(ScheduleConfig(name="warm_restarts", warmup_epochs=2, restart_epochs=4))
        assert [step for step, rate in enumerate(rates) if rate == 1.0] == [20, 60, 100, 140, 180, 220, 260, 300]


class TestSteps:
    def test_are_those_of_torch(self):
        config = ScheduleConfig(name="step", warmup_epochs=0, milestones=[6, 8, 20], gamma=0.5)
        expected = torch_curve(torch.optim.lr_scheduler.MultiStepLR, 300, milestones=[60, 80, 200], gamma=0.5)
        assert curve(config)[:300] == pytest.approx(expected, rel=1e-12)

    def test_without_milestones_stays(self):
        assert set(curve(ScheduleConfig(name="step", warmup_epochs=0))) == {1.0}


class TestSettingIt:
    def test_every_group_follows_its_own_peak(self):
        w = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
        groups = [
            {"params": [w[0]], "lr": 0.3, "peak_lr": 0.3, "scheduled": True},
            {"params": [w[1]], "lr": 0.1, "peak_lr": 0.1, "scheduled": True},
            {"params": [w[2]], "lr": 0.5, "peak_lr": 0.5, "scheduled": False},
        ]
        optimizer = torch.optim.SGD(groups, 1.0)
        config = ScheduleConfig(warmup_epochs=1)
        for step in (0, 5, 10, 155, 299, 5):  # in any order: nothing is remembered
            set_learning_rate(optimizer, config, step=step, steps_per_epoch=10, total_steps=300)
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == [*(learning_rate(config, peak, step, 10, 300) for peak in (0.3, 0.1)), 0.5]
            assert all(type(rate) is float for rate in rates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosine"}, "schedule.name is 'cosine'"),
        ({"warmup_epochs": -1}, "schedule.warmup_epochs is -1"),
        ({"warmup_start_lr": float("nan")}, "schedule.warmup_start_lr is nan"),
        ({"final_lr": float("inf")}, "schedule.final_lr is inf"),
        ({"gamma": -0.1}, "schedule.gamma is -0.1"),
        ({"restart_epochs": 0}, "schedule.restart_epochs is 0"),
        ({"milestones": [80, 60]}, "schedule.milestones is"),
        ({"milestones": [-1]}, "schedule.milestones is"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**options)
