"""Objects of CIFAR-100: fruit, a flower, things and a landscape."""

import numpy as np

from scripts.samples.painting import Part, curve, ellipse, polygon, rectangle, stroke
from scripts.samples.photos import BLACK, ground, line, shadow, sky

PAPER = Part(rectangle(0, 0, 1, 1), (252, 252, 252), (240, 240, 240))


def petals(count: int, inner: float, outer: float, half: float) -> tuple[Part, ...]:
    """Return pointed yellow petals around the centre; `half` is half their width in radians."""
    turns = 2 * np.pi * np.arange(count) / count

    def at(turn: float, radius: float) -> tuple[float, float]:
        return 0.5 + radius * float(np.sin(turn)), 0.5 - radius * float(np.cos(turn))

    return tuple(
        Part(
            curve(
                at(turn - half, inner), at(turn - half, (inner + outer) / 2), at(turn, outer),
                at(turn, outer), at(turn + half, (inner + outer) / 2), at(turn + half, inner),
            ),
            (250, 206, 30), (236, 168, 10), rim=0.2, mottle=0.08,
        )
        for turn in turns
    )  # fmt: skip


APPLE = (
    PAPER,
    shadow(0.22, 0.82, 0.87, 0.035),
    Part(
        curve(
            (0.50, 0.27), (0.62, 0.20), (0.78, 0.22), (0.89, 0.38), (0.88, 0.60), (0.78, 0.79),
            (0.65, 0.87), (0.50, 0.84), (0.35, 0.87), (0.22, 0.79), (0.12, 0.60), (0.11, 0.38),
            (0.22, 0.22), (0.38, 0.20),
        ),
        (206, 30, 36), (150, 10, 24), rim=0.35, mottle=0.06, patch=(0.04, 0.12),
    ),
    Part(ellipse(0.50, 0.265, 0.10, 0.035), (120, 40, 24), soft=0.015, opacity=0.8),
    Part(stroke((0.50, 0.28), (0.51, 0.20), (0.56, 0.11)), (84, 58, 34), line=0.03),
    Part(ellipse(0.32, 0.40, 0.09, 0.12), (250, 190, 180), soft=0.03, opacity=0.55),
)  # fmt: skip

BOTTLE = (
    PAPER,
    shadow(0.34, 0.66, 0.95, 0.02),
    Part(
        curve(
            (0.445, 0.09), (0.445, 0.09), (0.555, 0.09), (0.555, 0.09), (0.555, 0.28),
            (0.59, 0.37), (0.645, 0.44), (0.655, 0.54), (0.655, 0.90), (0.64, 0.95), (0.64, 0.95),
            (0.36, 0.95), (0.36, 0.95), (0.345, 0.90), (0.345, 0.54), (0.355, 0.44),
            (0.41, 0.37), (0.445, 0.28),
        ),
        (34, 92, 54), (14, 50, 28), rim=0.3,
    ),
    Part(rectangle(0.435, 0.05, 0.565, 0.14), (150, 26, 34), (110, 16, 24), rim=0.2),
    Part(rectangle(0.345, 0.56, 0.655, 0.80), (242, 234, 210), (226, 214, 186)),
    Part(rectangle(0.40, 0.62, 0.60, 0.66), (120, 30, 36)),
    Part(rectangle(0.42, 0.70, 0.58, 0.72), (110, 100, 84)),
    Part(stroke((0.395, 0.46), (0.385, 0.52), (0.385, 0.90)), (200, 230, 206),
         line=0.02, soft=0.008, opacity=0.6),
)  # fmt: skip

CLOCK = (
    PAPER,
    Part(ellipse(0.51, 0.52, 0.44), (40, 40, 44), soft=0.02, opacity=0.4),
    Part(ellipse(0.5, 0.5, 0.44), (44, 46, 52), (18, 18, 22)),
    Part(ellipse(0.5, 0.5, 0.385), (250, 250, 246), (232, 232, 228)),
    *(
        Part(
            stroke(
                (0.5 + 0.30 * np.sin(turn), 0.5 - 0.30 * np.cos(turn)),
                (0.5 + 0.355 * np.sin(turn), 0.5 - 0.355 * np.cos(turn)),
            ),
            BLACK, line=0.03,
        )
        for turn in 2 * np.pi * np.arange(12) / 12
    ),
    Part(stroke((0.5, 0.5), (0.36, 0.38)), BLACK, line=0.035),
    Part(stroke((0.5, 0.5), (0.69, 0.34)), BLACK, line=0.025),
    Part(ellipse(0.5, 0.5, 0.03), (170, 30, 30)),
)  # fmt: skip

MOUNTAIN = (
    sky(0.80, (84, 134, 198), (190, 214, 232)),
    Part(
        polygon((-0.02, 0.58), (0.10, 0.50), (0.22, 0.56), (0.36, 0.44), (0.70, 0.80),
                (-0.02, 0.80)),
        (122, 136, 164), (104, 118, 142), mottle=0.2, patch=(0.05, 0.08),
    ),
    Part(
        polygon((-0.02, 0.80), (0.14, 0.66), (0.26, 0.50), (0.34, 0.44), (0.44, 0.28), (0.52, 0.20),
                (0.60, 0.30), (0.70, 0.38), (0.80, 0.52), (0.90, 0.58), (1.02, 0.70), (1.02, 0.80)),
        (92, 96, 108), (70, 78, 84), mottle=0.3, patch=(0.04, 0.07),
    ),
    Part(
        polygon((0.52, 0.20), (0.60, 0.30), (0.70, 0.38), (0.77, 0.48), (0.70, 0.46), (0.64, 0.40),
                (0.60, 0.50), (0.54, 0.40), (0.46, 0.52), (0.42, 0.42), (0.32, 0.50), (0.44, 0.28)),
        (248, 250, 252), (226, 234, 244), mottle=0.06,
    ),
    Part(polygon((0.52, 0.20), (0.60, 0.30), (0.60, 0.50), (0.54, 0.40)), (186, 200, 222),
         opacity=0.8),
    ground(0.80, (62, 92, 54), (44, 72, 40), 0.3, 0.06),
)  # fmt: skip

ORANGE = (
    PAPER,
    shadow(0.20, 0.82, 0.87, 0.035),
    Part(ellipse(0.5, 0.52, 0.37), (250, 150, 22), (226, 104, 4), rim=0.35, mottle=0.05,
         patch=(0.02, 0.02)),
    Part(ellipse(0.52, 0.20, 0.035, 0.02), (84, 110, 40)),
    Part(ellipse(0.37, 0.36, 0.09, 0.08), (255, 222, 160), soft=0.03, opacity=0.6),
)  # fmt: skip

ROCKET = (
    sky(1, (60, 112, 180), (164, 196, 224)),
    # Smoke, fire, then the tanks from back to front.
    Part(curve((0.36, 0.86), (0.22, 0.95), (0.16, 1.1), (0.84, 1.1), (0.78, 0.95), (0.64, 0.86)),
         (236, 236, 236), (200, 200, 204), soft=0.02, mottle=0.2, patch=(0.08, 0.06)),
    Part(curve((0.44, 0.76), (0.42, 0.88), (0.50, 1.0), (0.58, 0.88), (0.56, 0.76)),
         (255, 240, 170), (255, 150, 40), soft=0.012),
    Part(rectangle(0.455, 0.18, 0.545, 0.78), (246, 246, 246), (214, 216, 220), rim=0.25),
    Part(curve((0.455, 0.19), (0.47, 0.10), (0.50, 0.04), (0.50, 0.04), (0.53, 0.10),
               (0.545, 0.19)), (236, 236, 238), (206, 208, 212), rim=0.2),
    Part(rectangle(0.455, 0.34, 0.545, 0.38), (30, 32, 38)),
    Part(rectangle(0.455, 0.58, 0.545, 0.61), (30, 32, 38)),
    *(
        Part(
            curve((x - 0.03, 0.80), (x - 0.03, 0.50), (x, 0.42), (x, 0.42), (x + 0.03, 0.50),
                  (x + 0.03, 0.80)),
            (240, 240, 242), (190, 192, 198), rim=0.2,
        )
        for x in (0.425, 0.575)
    ),
    line((0.50, 0.20), (0.50, 0.76), colour=(120, 124, 132)),
)  # fmt: skip

SUNFLOWER = (
    Part(rectangle(0, 0, 1, 1), (70, 112, 52), (44, 84, 34), mottle=0.3, patch=(0.12, 0.1)),
    *petals(18, 0.20, 0.48, 0.13),
    *petals(15, 0.18, 0.40, 0.14),
    Part(ellipse(0.5, 0.5, 0.21), (96, 58, 22), (70, 40, 14), mottle=0.35, patch=(0.025, 0.025)),
    Part(ellipse(0.5, 0.5, 0.10), (60, 40, 18), soft=0.03, opacity=0.7),
)  # fmt: skip
