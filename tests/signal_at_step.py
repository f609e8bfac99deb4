"""A run that sends itself a signal at a step that is known: no test has to race with it."""

import os
import signal
import threading

from lightning.pytorch import Callback


class SignalAtStep(Callback):
    """Sends a signal to its own process after an optimiser step.

    Args:
        name: of the signal, such as ``SIGKILL``.
        step: the step, counted from 1 over the whole run.
        delay: seconds by which it is late, so that it falls somewhere into writing what the step left, or into the
            step that follows; but it never comes later than the end of that one.
    """

    def __init__(self, name: str, step: int, delay: float = 0.0) -> None:
        self.number = signal.Signals[name]
        self.step = step
        self.delay = delay
        self.sent = False

    def on_train_batch_end(self, trainer, module, *args) -> None:
        if trainer.global_step == self.step:
            timer = threading.Timer(self.delay, self._send)
            timer.daemon = True
            timer.start()
            if not self.delay:
                timer.join()
        elif trainer.global_step > self.step:
            self._send()

    def _send(self) -> None:
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def signal_at_step(name: str, step: int, delay: float = 0.0) -> str:
    """The argument that gives a run such a callback; :data:`NO_SIGNAL` takes it from the run that is resumed."""
    made = f"class_path: {__name__}.{SignalAtStep.__name__}, init_args: {{name: {name}, step: {step}, delay: {delay}}}"
    return f"--trainer.callbacks=[{{{made}}}]"


NO_SIGNAL = "--trainer.callbacks=null"
