"""Socket types and input definitions of the nodes."""

from .conditions import applies, unless_linked
from .definitions import inputs, planned_here
from .kinds import (
    CONDITIONING,
    DDIM_SCHEDULE,
    DDIM_STEPS,
    IMAGE,
    LATENT,
    MODEL,
    SAMPLER,
    SIGMAS,
    VARIANCE_NOISE,
    Input,
    InputTypes,
    Node,
    choice,
    integer,
    number,
    socket,
    switch,
    text,
)

__all__ = [
    "CONDITIONING",
    "DDIM_SCHEDULE",
    "DDIM_STEPS",
    "IMAGE",
    "LATENT",
    "MODEL",
    "SAMPLER",
    "SIGMAS",
    "VARIANCE_NOISE",
    "Input",
    "InputTypes",
    "Node",
    "applies",
    "choice",
    "inputs",
    "integer",
    "number",
    "planned_here",
    "socket",
    "switch",
    "text",
    "unless_linked",
]
