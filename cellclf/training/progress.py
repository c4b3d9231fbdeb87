"""What a training tells whoever watches. The methods here do nothing; the command line overrides them."""

from cellclf.training.run import Epoch

__all__ = ["Progress"]


class Progress:
    """A watcher that shows nothing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Data are read, decoded, or run through a frozen backbone."""

    def note(self, text: str) -> None:
        """Something a user should know once."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Epoch `epoch` of `epochs` begins; it has `steps` batches."""

    def batch_done(self, step: int, *, loss: float, accuracy: float, images_per_second: float) -> None:
        """Batch `step` (from 1) is done; loss and accuracy are the epoch's means so far."""

    def epoch_ended(self, row: Epoch, *, best: bool, seconds_left: float) -> None:
        """The epoch is validated and saved."""
