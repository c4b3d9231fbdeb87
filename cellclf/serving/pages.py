"""The page for people: four files of this package, sent as they are, with a policy that lets them talk to this server only."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response

from cellclf.serving.refusals import RefusedError

__all__ = ["add_page"]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def add_page(app: FastAPI) -> None:
    """GET / and what it loads; read once, so that nothing on disk is opened for a request."""
    folder = files("cellclf.serving") / "page"
    contents = {name: (folder / name).read_bytes() for name in _TYPES}
    headers = {"content-security-policy": PAGE_POLICY}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(contents["index.html"], media_type=_TYPES["index.html"], headers=headers)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in contents:
            raise RefusedError(404, "there is no such page", reason="path")
        return Response(contents[name], media_type=_TYPES[name], headers=headers)
