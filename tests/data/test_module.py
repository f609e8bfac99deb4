import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser

from solo_frossl.augment import View
from solo_frossl.batch import Batch, Views
from solo_frossl.data import DATASETS, Digits, ImageDataModule, ImageFolder, module


def digits(**kwargs) -> Digits:
    data = Digits(**{"batch_size": 64, **kwargs})
    data.setup()
    return data


class Recorder(pl.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, Views]] = []
        self.validated: list[Batch] = []

    def training_step(self, batch: Views, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch_idx, batch))
        return self.weight * batch.views[0].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Stop(pl.Callback):
    """Saves a checkpoint and stops after a number of steps, in the middle of an epoch."""

    def __init__(self, step: int, path: str) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(data: ImageDataModule, epochs: int, checkpoint: str | None = None, callbacks: tuple = ()) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )
    try:
        trainer.fit(recorder, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        assert callbacks
    return recorder


class TestWithTheTrainer:
    def test_trains_on_views_and_validates_on_clean_images(self):
        data = digits(subset=350)
        recorder = fit(data, 2)
        assert [(epoch, step) for epoch, step, _ in recorder.seen] == [(e, s) for e in range(2) for s in range(5)]
        views = recorder.seen[0][2]
        assert isinstance(views, Views)
        assert [view.shape for view in views.views] == [(64, 1, 8, 8)] * 2
        assert sum(len(batch.label) for batch in recorder.validated[-1:]) == 359
        assert isinstance(recorder.validated[0], Batch)
        assert recorder.validated[0].image.dtype == torch.float32

    def test_every_epoch_has_its_own_order(self):
        recorder = fit(digits(subset=350), 2)
        index = [torch.cat([v.index for e, _, v in recorder.seen if e == epoch]) for epoch in range(2)]
        order = digits(subset=350).train_dataloader()
        for epoch in range(2):
            order.sampler.set_epoch(epoch)
            assert index[epoch].equal(torch.cat([batch.index for batch in order]))
        assert not index[0].equal(index[1])

    @pytest.mark.parametrize("step", [2, 4, 5, 7])
    def test_a_resumed_run_sees_exactly_the_rest(self, tmp_path, step):
        path = str(tmp_path / "stopped.ckpt")
        whole = fit(digits(subset=350), 2).seen
        first = fit(digits(subset=350), 2, callbacks=(Stop(step, path),)).seen
        rest = fit(digits(subset=350), 2, checkpoint=path).seen
        assert len(first) == step
        assert len(rest) == 10 - step
        for (e1, s1, v1), (e2, s2, v2) in zip(whole[step:], rest, strict=True):
            assert (e1, s1) == (e2, s2)
            assert v1.index.equal(v2.index)
            assert all(a.equal(b) for a, b in zip(v1.views, v2.views, strict=True))


class TestViews:
    def test_depend_on_seed_epoch_step_and_process(self, processes):
        data, batch = digits(), next(iter(digits().train_dataloader()))

        def first(data: Digits, batch: Batch) -> torch.Tensor:
            return data.make_views(batch).views[0]

        assert first(data, batch).equal(first(digits(), batch))
        assert not first(data, batch).equal(first(data, batch._replace(epoch=1)))
        assert not first(data, batch).equal(first(data, batch._replace(step=1)))
        assert not first(data, batch).equal(first(digits(seed=1), batch))
        before = first(data, batch)
        processes(1, 2)
        assert not before.equal(first(data, batch))

    def test_labels_and_positions_come_along(self):
        data = digits(views=[View(count=3)])
        batch = next(iter(data.train_dataloader()))
        views = data.make_views(batch)
        assert len(views.views) == 3
        assert views.label.equal(batch.label)
        assert views.index.equal(batch.index)

    def test_image_size_is_that_of_the_views(self):
        data = digits(image_size=12)
        batch = next(iter(data.train_dataloader()))
        assert data.make_views(batch).views[0].shape == (64, 1, 12, 12)
        assert data.clean(batch).image.shape == (64, 1, 12, 12)

    def test_without_a_trainer_batches_become_clean(self):
        data = digits()
        batch = next(iter(data.val_dataloader()))
        clean = data.on_after_batch_transfer(batch, 0)
        expected = (batch.image / 255 - data.mean[0]) / data.std[0]
        assert (clean.image - expected).abs().max() < 1e-5
        assert clean.label.equal(batch.label)

    def test_eval_crop_keeps_the_centre(self, folder):
        data = ImageFolder(root=str(folder), image_size=6, eval_crop=0.5, workers=0, mean=[0.0] * 3, std=[1.0] * 3)
        data.setup()
        batch = next(iter(data.val_dataloader()))
        assert (data.clean(batch).image * 255).round().equal(batch.image[..., 3:9, 3:9].float())


class TestResidency:
    def test_auto_is_memory_when_there_is_room(self, folder, monkeypatch):
        need = 28 * 3 * 12 * 12
        for room, placement in ((need / module.MEMORY_FRACTION, "cpu"), (need / module.MEMORY_FRACTION - 2, "stream")):
            monkeypatch.setattr(module, "free_memory", lambda room=room: room)
            data = ImageFolder(root=str(folder), batch_size=4, workers=0)
            data.setup()
            assert data.placement == placement
            assert len(list(data.train_dataloader())) == 5

    def test_a_choice_is_followed(self, folder):
        for residency, placement in (("memory", "cpu"), ("device", "cpu"), ("stream", "stream")):
            data = ImageFolder(root=str(folder), residency=residency, workers=0)
            data.setup()
            assert data.placement == placement

    def test_stream_and_memory_give_the_same_batches(self):
        memory, stream = digits().train_dataloader(), digits(residency="stream", workers=0).train_dataloader()
        for a, b in zip(memory, stream, strict=True):
            assert a.image.equal(b.image)
            assert a.label.equal(b.label)

    @pytest.mark.parametrize(
        ("residency", "free", "moves"),
        [
            ("auto", 4 * 1797 * 64, True),
            ("auto", 4 * 1797 * 64 - 4, False),
            ("device", 0, True),
            ("memory", 1e12, False),
        ],
    )
    def test_images_move_to_the_device_where_they_fit(self, monkeypatch, residency, free, moves):
        class Trainer:
            class strategy:
                root_device = torch.device("meta")

            num_devices = 1

        monkeypatch.setattr(module, "free_device_memory", lambda device: free)
        data = digits(residency=residency)
        data.trainer = Trainer()
        data.train_dataloader()
        assert data.placement == ("meta" if moves else "cpu")
        assert (data._val.images.device.type == "meta") == moves

    def test_a_second_setup_reads_nothing(self, folder, truncate):
        data = ImageFolder(root=str(folder), workers=0)
        data.setup("fit")
        images = data._train.images
        data.setup("validate")
        assert data._train.images is images

    def test_loaders_before_setup_are_refused(self):
        with pytest.raises(RuntimeError, match=r"setup\(\) first"):
            Digits().train_dataloader()


class TestArguments:
    @pytest.mark.parametrize(
        "bad",
        [
            {"batch_size": 0},
            {"eval_batch_size": 0},
            {"image_size": 0},
            {"resize": -1},
            {"workers": -1},
            {"eval_crop": 0.0},
            {"eval_crop": 1.5},
            {"mean": [0.5, 0.5, 0.5]},
            {"std": []},
        ],
    )
    def test_out_of_range_names_the_key(self, bad):
        with pytest.raises(ValueError, match=rf"^data\.{next(iter(bad))} "):
            Digits(**bad)

    def test_a_batch_larger_than_the_dataset(self):
        with pytest.raises(ValueError, match=r"100 training images do not fill one batch of 256"):
            digits(subset=100, batch_size=256).train_dataloader()

    @pytest.mark.parametrize("name", DATASETS)
    def test_every_dataset_is_configured_from_its_signature(self, name):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(DATASETS[name], "data")
        config = parser.parse_args(["--data.batch_size=32", "--data.subset=0.5", "--data.residency=stream"]).data
        assert (config.batch_size, config.subset, config.residency) == (32, 0.5, "stream")
        help_text = " ".join(parser.format_help().split())
        for key in vars(config):
            assert f"--data.{key} " in help_text
        assert "images of all processes together per training step" in help_text

    def test_views_are_configured(self):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Digits, "data")
        config = parser.parse_object({"data": {"views": [{"recipe": "symmetric", "count": 4}]}})
        data = parser.instantiate(config).data
        assert [view.count for view in data.views] == [4]
