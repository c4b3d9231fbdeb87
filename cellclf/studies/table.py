"""STUDIES: one row = one study. The five published ones, figures as printed there; a user's own row is added with STUDIES.add."""

import runpy
from pathlib import Path
from typing import Any

from cellclf.errors import StudyError
from cellclf.studies.study import Published, Question, Study, Variation, read_study
from cellclf.tables import Table

__all__ = ["STUDIES", "find_study"]

_COMMON: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 32,
    "dropout": 0.5,
    "schedule": "constant",
    "weights": "imagenet",
    "freeze": "none",
    "augmentation": "none",
    "class_weight": "none",
    "patience": 0,
}
_UNSTATED = "The source states neither batch size nor augmentation; 32 and none are assumed."
_EPOCHS_UNSTATED = "The source states no number of epochs; 30 without early stopping is assumed."
_QUESTIONS = (
    Question(text="Does the number of hidden layers matter?", factor="hidden", variations=("basic", "two-hidden", "three-hidden")),
    Question(text="Does the number of dense units matter?", factor="hidden", variations=("basic", "dense-16", "dense-32")),
    Question(text="Does the learning rate matter?", factor="learning_rate", variations=("basic", "lr-5e-5", "lr-1e-4")),
)
_SEVEN: tuple[tuple[str, str, tuple[int, ...], float], ...] = (
    ("basic", "Basic", (8,), 1e-5),
    ("dense-16", "Dense 16", (16,), 1e-5),
    ("dense-32", "Dense 32", (32,), 1e-5),
    ("two-hidden", "Two hidden layers", (8, 8), 1e-5),
    ("three-hidden", "Three hidden layers", (8, 8, 8), 1e-5),
    ("lr-5e-5", "Learning rate 5e-5", (8,), 5e-5),
    ("lr-1e-4", "Learning rate 1e-4", (8,), 1e-4),
)


def _figures(train: tuple[float, float], validation: tuple[float, float], test: tuple[float, float] | None, time: str, note: str = "") -> Published:
    return Published(
        train_loss=train[0],
        train_accuracy=train[1],
        validation_loss=validation[0],
        validation_accuracy=validation[1],
        test_loss=test[0] if test else None,
        test_accuracy=test[1] if test else None,
        learning_time=time,
        note=note,
    )


def _backbone(name: str, title: str, hidden: tuple[int, ...], rate: float, published: Published) -> Variation:
    return Variation(name=name, title=title, backbone=name, choices={"hidden": hidden, "learning_rate": rate}, published=published)


def _seven(published: tuple[Published, ...]) -> tuple[Variation, ...]:
    return tuple(
        Variation(name=name, title=title, backbone="mobilenet", choices={"hidden": hidden, "learning_rate": rate}, published=figures)
        for (name, title, hidden, rate), figures in zip(_SEVEN, published, strict=True)
    )


STUDIES: Table[Study] = Table(
    "study",
    [
        Study(
            name="blood-backbones",
            letter="A",
            title="Blood cells, four backbones",
            data="blood-cells",
            protocols=("random", "official"),
            factors=("backbone",),
            common=_COMMON,
            variations=(
                _backbone("mobilenet", "MobileNet", (8,), 5e-5, _figures((0.3148, 0.8298), (0.0276, 0.9960), (0.0492, 0.9936), "0:25:30.70")),
                _backbone("inceptionv3", "InceptionV3", (8,), 5e-5, _figures((0.2926, 0.8252), (0.0194, 0.9970), (0.0071, 0.9984), "0:41:58.52")),
                _backbone("xception", "Xception", (8,), 1e-4, _figures((0.2061, 0.9083), (0.0052, 0.9990), (0.0068, 0.9992), "1:14:44.08")),
                _backbone("resnet50", "ResNet50", (16,), 1e-5, _figures((0.0896, 0.9729), (0.0266, 0.9930), (0.0127, 0.9976), "0:57:24.58")),
            ),
            notes=(
                _UNSTATED,
                _EPOCHS_UNSTATED,
                "Head, learning rate and image size change along with the backbone, so these rows cannot be ranked by backbone.",
                "The source's column 'Learning Time (ms)' holds only the microseconds of the clock time; the clock time stands here.",
            ),
        ),
        Study(
            name="blood-mobilenet",
            letter="B",
            title="Blood cells, MobileNet, seven variations",
            data="blood-cells",
            protocols=("random", "official"),
            factors=("hidden", "learning_rate"),
            common=_COMMON,
            variations=_seven(
                (
                    _figures((0.3532, 0.8056), (0.0372, 0.9950), (0.0428, 0.9920), "0:20:39.37"),
                    _figures((0.0974, 0.9550), (0.0225, 0.9920), (0.0230, 0.9904), "0:19:32.32"),
                    _figures((0.0205, 0.9948), (0.0174, 0.9960), (0.0278, 0.9900), "0:20:48.26"),
                    _figures((1.0668, 0.5576), (0.8729, 0.7760), (0.8782, 0.7804), "0:20:51.24"),
                    _figures((1.3084, 0.3528), (0.2070, 0.4835), (1.1995, 0.4764), "0:19:52.12"),
                    _figures((0.3148, 0.8298), (0.0276, 0.9960), (0.0492, 0.9936), "0:25:30.70", "The source's table prints lr 1e-5 here."),
                    _figures(
                        (0.2533, 0.8445),
                        (0.0672, 0.9845),
                        (0.0721, 0.9836),
                        "0:12:19.49",
                        "The source's table prints lr 1e-5 and 78.36 % where its text says 1e-4 and 98.36 %.",
                    ),
                )
            ),
            questions=_QUESTIONS,
            notes=(_UNSTATED, _EPOCHS_UNSTATED),
        ),
        Study(
            name="chest-backbones",
            letter="C",
            title="Chest X-rays, five backbones",
            data="chest-xray",
            protocols=("random", "official"),
            factors=("backbone",),
            common={**_COMMON, "hidden": (16, 16), "learning_rate": 1e-5, "patience": 5},
            variations=(
                Variation(
                    name="mobilenet",
                    title="MobileNet",
                    backbone="mobilenet",
                    published=_figures((0.4888, 0.9880), (0.4954, 0.9744), (0.4937, 0.9769), "0:33:43.23"),
                ),
                Variation(
                    name="inceptionv3",
                    title="InceptionV3",
                    backbone="inceptionv3",
                    published=_figures((0.2417, 0.9939), (0.2784, 0.9541), (0.2783, 0.9556), "0:19:59.70", "Stopped at epoch 16 of 30."),
                ),
                *(
                    Variation(
                        name=name,
                        title=title,
                        backbone=name,
                        published=published.model_copy(
                            update={"note": "Its accuracies are multiples of the blood-cell split's sizes: very likely no chest X-ray run."}
                        ),
                    )
                    for name, title, published in (
                        ("xception", "Xception", _figures((0.1125, 0.9444), (0.0670, 0.9840), (0.0406, 0.9912), "0:57:58.33")),
                        ("resnet50", "ResNet50", _figures((0.0862, 0.9448), (0.0270, 0.9935), (0.0145, 0.9960), "0:54:44.54")),
                        ("vgg16", "VGG16", _figures((0.1831, 0.8877), (0.0137, 0.9960), (0.0189, 0.9944), "1:00:10.59")),
                    )
                ),
            ),
            notes=(
                _UNSTATED,
                "The source stops early without stating the patience; 5 epochs are assumed.",
                "InceptionV3 and Xception take 299 px and the others 224, so at full scale only backbones of one image size can be ranked.",
            ),
        ),
        Study(
            name="chest-recipes",
            letter="D",
            title="Chest X-rays, three recipes",
            data="chest-xray",
            protocols=("random", "official"),
            factors=("backbone",),
            common={**_COMMON, "hidden": (16,)},
            variations=(
                Variation(
                    name="mobilenet-2e-5",
                    title="MobileNet, 40 epochs",
                    backbone="mobilenet",
                    choices={"learning_rate": 2e-5, "epochs": 40},
                    published=Published(test_loss=1.6094, test_accuracy=0.7933, learning_time="0:26:04.70"),
                ),
                Variation(
                    name="mobilenet-1e-7",
                    title="MobileNet, 80 epochs",
                    backbone="mobilenet",
                    choices={"learning_rate": 1e-7, "epochs": 80},
                    published=Published(test_loss=0.0528, test_accuracy=0.9923),
                ),
                Variation(
                    name="resnet50",
                    title="ResNet50, 50 epochs",
                    backbone="resnet50",
                    choices={"learning_rate": 1e-5, "epochs": 50},
                    published=Published(
                        test_loss=0.1454,
                        test_accuracy=0.9744,
                        validation_loss=0.1774,
                        validation_accuracy=0.9679,
                        learning_time="0:28:48.60",
                        parameters=23_620_530,
                    ),
                ),
            ),
            notes=(_UNSTATED, "Backbone, learning rate and epochs all differ: by the source's own conclusion these rows cannot be ranked."),
        ),
        Study(
            name="chest-mobilenet",
            letter="E",
            title="Chest X-rays, MobileNet, seven variations",
            data="chest-xray",
            protocols=("random", "official"),
            factors=("hidden", "learning_rate"),
            common=_COMMON,
            variations=_seven(
                (
                    _figures((0.0648, 0.9699), (0.0793, 0.9754), (0.0854, 0.9726), "0:38:35.14"),
                    _figures((0.0298, 0.9867), (0.0652, 0.9838), None, "0:28:23.51", "The source's table prints the validation accuracy as test."),
                    _figures((0.0126, 0.9968), (0.0992, 0.9712), (0.0774, 0.9795), "0:28:42.61", "The source's table prints 96.50 %."),
                    _figures((0.4389, 0.9040), (0.1930, 0.9658), (0.1761, 0.9803), "0:30:19.74"),
                    _figures((0.5294, 0.7480), (0.3263, 0.9444), (0.3138, 0.9650), "0:28:12.71"),
                    _figures((0.0573, 0.9848), (0.1070, 0.9722), (0.0864, 0.9821), "0:26:47.90"),
                    _figures((0.0997, 0.9893), (0.1916, 0.9712), (0.1152, 0.9786), "0:26:22.64"),
                )
            ),
            questions=_QUESTIONS,
            notes=(_UNSTATED, _EPOCHS_UNSTATED),
        ),
    ],
)


def find_study(name: str) -> Study:
    """A study by its row's name, its letter, or the path of a .toml file, or of a .py file that sets STUDY; raises StudyError, UnknownNameError."""
    path = Path(name)
    if path.suffix == ".toml":
        return read_study(path)
    if path.suffix == ".py":
        return _study_of_module(path)
    by_letter = {study.letter: study for study in STUDIES.values() if study.letter}
    return by_letter.get(name.upper()) or STUDIES.find(name)


def _study_of_module(path: Path) -> Study:
    if not path.is_file():
        raise StudyError(f"the study {path} cannot be read: no such file")
    study = runpy.run_path(str(path)).get("STUDY")
    if not isinstance(study, Study):
        raise StudyError(f"{path} sets no STUDY, a cellclf.studies.study.Study")
    return study
