"""`gpunet page`: one HTML file to draw a digit on and watch a saved network think.

document.py  puts the file together from page.html, page.css, the scripts and what is to be shown.
content.py   decides what is shown of a model and its test images.
command.py   the command.
"""

from gpunet.page.command import main

__all__ = ["main"]
