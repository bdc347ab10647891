"""Every training that the pages show takes its first two steps, with small files of the kinds that it names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import SHARED
from tests.test_documents import TRAINED, one_of_each

Program = Callable[..., tuple[int, str]]

COUNT = 150
SHORT = ("trainer.max_steps=2", "data.limit=80", "evaluation=none", "threads=1", "run_dir=run")
STAND_INS = {
    "data.root=FOLDER": "data.root=saved",
    "data.root=FILE.npy": "data.root=images.npy",
    "data.root=PATH": "data.root=images",
}
"""Names on the pages that stand for a file or folder, and one that is there."""
ELSEWHERE = {
    "resume=": "tests/training/callbacks/test_exact_resume.py resumes runs",
    "devices=": "tests/distributed has several devices",
    "sweep=": "tests/commands/test_sweeps.py has sweeps",
    "logger=": "tests/training/test_trackers.py has loggers",
    "=my": "tests/test_examples.py has networks and data of one's own",
    "runs/zoo": "scripts/zoo_pages.py runs them",
    "vgg16": "weights of VGG16 have to be downloaded",
    "data=cifar10": "CIFAR-10 has to be downloaded",
}
"""What needs more than files, and where it is tested."""
SMALLER = {
    "4095": ("data.root=deep",),
    "experiment=tokenizer": ("data.batch_size=2", "data.image_size=32", "trainer.accumulate_grad_batches=1"),
    "start=30000": ("model.discriminator_options.start=1",),
    "data=sprites": ("data.limit=200",),
    "data=mnist": (f"data.root={SHARED}",),
    "model=vqvae2": ("data.limit=150",),
    "experiment=plane": (f"data.root={SHARED}",),
    "experiment=mnist_vae": (f"data.root={SHARED}",),
}
"""Settings beside those of a command that contains a word."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits in every format that the pages name, and with tables."""
    datasets, h5py = pytest.importorskip("datasets"), pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("files")
    digits = load_digits()
    images, labels = (digits.images[:COUNT] * 15).astype(np.uint8), digits.target[:COUNT]
    np.save(folder / "images.npy", images)
    np.savez(folder / "pathmnist.npz", train_images=images, train_labels=labels[:, None])
    factors = np.stack([np.zeros(COUNT, int), *(labels // divisor for divisor in (1, 2, 3, 4, 5))], 1)
    np.savez(folder / "dsprites.npz", imgs=(images > 100).astype(np.uint8), latents_classes=factors)
    for name, keys in {"images.h5": ("images", "labels"), "experiment.h5": ("raw/frames", "raw/kinds")}.items():
        with h5py.File(folder / name, "w") as file:
            file[keys[0]], file[keys[1]] = images, labels
    pictures = [Image.fromarray(pixels) for pixels in images]
    deep = [Image.fromarray(pixels.astype(np.uint16) * 16) for pixels in images]  # values of 12 bits
    for name, files in {"images": pictures, "deep": deep}.items():
        (folder / name).mkdir()
        for number, picture in enumerate(files):
            picture.save(folder / name / f"{number:06d}.png")
    for names, target in {("img", "fine_label"): "saved", ("image", "label"): "train.parquet"}.items():
        kinds = datasets.Features({names[0]: datasets.Image(), names[1]: datasets.ClassLabel(10)})
        table = datasets.Dataset.from_dict({names[0]: pictures, names[1]: labels.tolist()}, features=kinds)
        table.to_parquet(folder / target) if target.endswith("parquet") else table.save_to_disk(folder / target)
    numbers = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)
    np.save(folder / "spectra.npy", numbers)
    np.savetxt(folder / "wine.csv", numbers, delimiter=",", header="a,b,c,d,e,f", comments="")
    people = dict(zip(("height", "weight", "age"), numbers.T.tolist(), strict=False))
    datasets.Dataset.from_dict({**people, "city": [f"city {label}" for label in labels]}).to_parquet(
        folder / "people.parquet"
    )
    return folder


@pytest.fixture
def here(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own that has links to the files."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.nightly
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", TRAINED)
def test_a_training_on_the_pages_takes_its_first_steps(text: str, program: Program) -> None:
    for word, reason in ELSEWHERE.items():
        if word in text:
            pytest.skip(reason)
    more = [setting for word, settings in SMALLER.items() if word in text for setting in settings]
    if f"data.root={SHARED}" in more and not SHARED.is_dir():
        pytest.skip(f"needs real images in {SHARED}, which are not part of the repository")
    words = [STAND_INS.get(word, word) for word in one_of_each(TRAINED[text]) if not word.startswith("resume=")]
    code, printed = program("train", *words, *SHORT, *more)
    assert code == 0, printed
