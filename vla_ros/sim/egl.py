"""Makes off-screen rendering possible, or says which package is missing.

Owns the choice of MuJoCo's OpenGL backend. MuJoCo reads ``MUJOCO_GL`` when it is first imported and cannot be
imported at all when that names a backend whose libraries are missing; so the choice is made here, before, and
physics without cameras works on any machine.
"""

import ctypes
import os

from vla_ros.data_types import UserError

# libEGL.so.1 is in libegl1, which brings Mesa's EGL but no driver; libGL.so.1 is in libgl1; the software driver
# swrast_dri.so, which a machine without a GPU needs, is in libgl1-mesa-dri.
_INSTALL = "install them with: apt-get install libegl1 libgl1 libgl1-mesa-dri"
_LIBRARIES = (("libEGL.so.1",), ("libOpenGL.so.0", "libGL.so.1"))


class RenderingError(UserError):
    """This machine cannot render off-screen."""


def select_backend() -> str:
    """Choose MuJoCo's OpenGL backend and return it.

    What ``MUJOCO_GL`` says, EGL when it says nothing, and none where EGL's libraries are missing.
    """
    backend = os.environ.get("MUJOCO_GL", "").lower() or "egl"
    if backend == "egl" and missing_libraries():
        backend = "disabled"
    os.environ["MUJOCO_GL"] = backend
    return backend


def missing_libraries() -> list[str]:
    """Return the libraries of EGL rendering that do not load here."""
    return [" or ".join(names) for names in _LIBRARIES if not any(map(_loads, names))]


def require_rendering() -> None:
    """Check that images can be rendered in the calling thread.

    Raises:
        RenderingError: They cannot; names what is missing and the Debian packages that bring it.
    """
    missing = missing_libraries()
    if missing and os.environ.get("MUJOCO_GL") in ("egl", "disabled"):
        raise RenderingError(
            f"the simulated cameras render through EGL, but {', '.join(missing)} is missing; {_INSTALL}"
        )
    import mujoco

    if not hasattr(mujoco, "GLContext"):
        raise RenderingError(
            f"the simulated cameras need OpenGL, which MUJOCO_GL={os.environ.get('MUJOCO_GL')} switches off; unset it"
        )
    if os.environ.get("MUJOCO_GL") == "egl" and mujoco.GLContext.__module__ != "mujoco.egl":
        raise RenderingError(
            f"mujoco was imported before vla_ros.sim and renders through {mujoco.GLContext.__module__}; "
            "import vla_ros.sim first, or set MUJOCO_GL=egl"
        )
    try:
        # Tried here because a Renderer that fails half-made complains again when it is collected.
        context = mujoco.GLContext(16, 16)
        context.make_current()
        context.free()
    except Exception as error:  # every backend fails with exceptions of its own
        raise RenderingError(
            f"the simulated cameras cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL')}, no driver works: "
            f"{' '.join(str(error).split())}; {_INSTALL}"
        ) from error


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
