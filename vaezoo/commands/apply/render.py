"""``vaezoo render RUN what=KIND out=FILE [KEY=VALUE...]``: draws or animates what a model makes."""

from collections.abc import Sequence
from functools import partial

from vaezoo.commands.apply.render_options import RenderOptions
from vaezoo.commands.apply.request import SHARED_USAGE, Request, applied, read
from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError, printable
from vaezoo.config.shapes import refuse_table
from vaezoo.runs.outputs import output

USAGE = f"""usage: vaezoo render RUN|FILE.safetensors|hf://OWNER/NAME what=KIND out=FILE [images=FOLDER] [KEY=VALUE...]

Draw a picture of what a trained model makes, or animate it.

  what=sample         images decoded from draws of the prior
  what=reconstruct    images, their reconstructions and errors
  what=interpolate    decoded paths between the codes of images
  what=traverse       one part of the code at a time moved, the others kept
  out=FILE            ends in .png, or in .gif for an animation of all but samples
  images=test         train, val or test of the run's data set, an image file, or a folder of them
  a=FILE b=FILE       interpolate: the image files at the ends of the path; traverse: a is the image to start from
  count=10            images or pairs; 64 samples, 4 pairs
  steps=9             images of a path; 25 in an animation
  rows=12             parts of the code to traverse, those of the largest KL first
  extent=2.5          of a traversal, in standard deviations to each side
  prior=mixture       sample: from the mixture fitted to codes instead of the model's own prior
  dpi=100             resolution; at 100, a pixel of an image is one or more whole pixels of the picture
{SHARED_USAGE}"""

ENDINGS = (".png", ".gif")


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_render, words))


def _render(words: Sequence[str]) -> int:
    render(*arguments_of(words))
    return 0


def arguments_of(words: Sequence[str]) -> tuple[Request, RenderOptions]:
    """Parse the command line; ConfigError for invalid arguments."""
    request, [options] = read("render", words, ENDINGS, RenderOptions)
    if options.what == "sample" and request.out.suffix.lower() == ".gif":
        raise ConfigError("samples do not move: choose out=FILE.png, or what=interpolate for a .gif")
    return request, options


def render(request: Request, options: RenderOptions) -> None:
    """Draw and write the picture or the animation."""
    with applied(request) as trained:
        import torch

        from vaezoo.commands.apply import drawing

        refuse_table(trained.model.image_shape, "vaezoo render", "use vaezoo encode or score")
        with output(request.out) as new, torch.no_grad():
            torch.manual_seed(request.options.seed)
            frames = drawing.draw(trained, request, options)
            drawing.write(frames, new, request.out.suffix.lower())
    height, width = frames[0].shape[:2]
    moving = f", {len(frames)} frames" if len(frames) > 1 else ""
    print(printable(f"{request.out}: {width}x{height} pixels{moving}"))
