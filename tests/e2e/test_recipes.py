"""What the how-to pages tell to put into a page, put there word for word, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.project import Project, fenced, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[[str], "Page"]

PAGE = """
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, render
from teams.models import Organization

@login_required
def recipe(request, slug, name):
    organization = get_object_or_404(Organization, slug=slug, memberships__user=request.user)
    return render(request, name, {"organization": organization, "notes": organization.notes.order_by("id")})
"""
ROUTE = """
from teams.recipes import recipe
urlpatterns += [
    path("orgs/<slug:slug>/list/", recipe, {"name": "teams/notes_list.html"}, name="notes"),
    path("orgs/<slug:slug>/recipes/<str:name>", recipe),
]
"""
PAGES = Path(__file__).parent / "pages"
PACKAGE = Path(__file__).parents[2] / "src/orgrealtime/static/orgrealtime"
VITE = ["vite@8", "@vitejs/plugin-vue@6", "typescript@5", "vue@3", "vue-tsc@3"]
VITE += ["react@19", "react-dom@19", "@types/react@19", "@types/react-dom@19"]
NOTES_LIST = "{% for note in notes %}<li>{{ note.text }}</li>{% endfor %}"
REACT = """
import { createRoot } from "react-dom/client";
RECIPE
const config = JSON.parse(document.getElementById("orgrealtime-config").textContent);
createRoot(document.getElementById("root")).render(
  <Notes org={config.org} user={{ id: config.shareKey }} position={config.since} initial={[]} fetchNotes={() => []} />,
);
"""


def how_to(page: str, number: int = 0) -> str:
    return fenced(read(f"howto/{page}.md"), r"(?:html\+django|html|jsx?)")[number]


def page_with(body: str, head: str = "") -> str:
    return f"<!doctype html><title>Recipe</title>\n{head}\n{body}"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has put what the recipes are about."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NO NPM: THE RECIPES FOR HTMX AND REACT ARE NOT TRIED")
    folder = tmp_path_factory.mktemp("npm")
    packages = ["htmx.org@2", "react@19", "react-dom@19", "esbuild"]
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), *packages]
    subprocess.run(command, check=True, timeout=300)
    return folder / "node_modules"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Vite makes of the pages in TypeScript, with the package as npm gives it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NO NPM: THE PAGES OF VITE ARE NOT TRIED")
    folder = tmp_path_factory.mktemp("vite")
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tarball = run(npm, "pack", "--silent", PACKAGE).strip()
    run(npm, "install", "--no-audit", "--no-fund", "--silent", f"./{tarball}", *VITE)
    run(folder / "node_modules/.bin/vue-tsc", "--project", "tsconfig.json")
    run(folder / "node_modules/.bin/vite", "build")
    return folder / "dist"


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    project.follow_tutorial()
    project.write("teams/recipes.py", PAGE)
    project.write("config/urls.py, at the end", ROUTE)
    project.write("teams/templates/teams/notes_list.html", NOTES_LIST)
    project.write("teams/static/empty.js", "")  # Django looks once for who has static files
    project.start()
    yield project
    project.close()


@pytest.fixture
def open_page(browser: Browser, project: Project) -> Iterator[Open]:
    """`open_page("<h1>…")`: alice's browser at a page with this template."""
    context = browser.new_context(base_url=project.url)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))

    def open_page(template: str) -> Page:
        name = f"recipe-{abs(hash(template))}.html"
        project.write(f"teams/templates/{name}", template)
        page = context.new_page()
        page.goto(f"/accounts/login/?next=/orgs/acme/recipes/{name}")
        page.fill("input[name=username]", "alice")
        page.fill("input[name=password]", "demo")
        page.press("input[name=password]", "Enter")
        page.wait_for_url("**/recipes/**")
        return page

    yield open_page
    context.close()
    assert errors == []


def publish(project: Project, text: str) -> None:
    add = f"add_note(Organization.objects.get(slug='acme'), User.objects.get(username='bob'), {text!r})"
    models = "from django.contrib.auth.models import User; from teams.models import Organization"
    project.manage("shell", "-c", f"{models}; from teams.services import add_note; {add}")


def test_tutorial_s_page_is_live(open_page: Open, project: Project) -> None:
    page = open_page("")
    page.goto("/orgs/acme/")
    expect(page.locator("#state")).to_have_text("live")
    publish(project, "from the tutorial")
    expect(page.locator("#notes")).to_contain_text("bob: from the tutorial")


def test_bell_of_the_how_to_counts_and_lists(open_page: Open, project: Project) -> None:
    page = open_page(page_with(how_to("use-in-your-page", 0)))
    bell = page.get_by_role("button", name=re.compile("Notifications"))
    expect(bell).to_be_visible()
    publish(project, "for the bell")
    expect(page.get_by_role("button", name=re.compile("1 unread"))).to_be_visible()
    bell.click()
    expect(page.locator("org-notifications")).to_contain_text("for the bell")


def test_page_of_the_how_to_changes_as_things_happen(open_page: Open, project: Project) -> None:
    page = open_page(page_with(how_to("use-in-your-page", 2)))
    expect(page.locator("#state")).to_have_text("")
    publish(project, "for the page")
    expect(page.locator("#notes li", has_text="for the page")).to_have_count(1)


@pytest.mark.parametrize("number", [0, 1])
def test_htmx_fetches_what_has_changed(open_page: Open, project: Project, modules: Path, number: int) -> None:
    project.write("teams/static/htmx.js", (modules / "htmx.org/dist/htmx.min.js").read_text())
    element = how_to("htmx", 0)
    if number:
        fetches = "{% url 'notes' organization.slug %}"
        element = element.partition("<ul")[0] + how_to("htmx", 1).replace('hx-get="…"', f'hx-get="{fetches}"')
    head = '{% load static %}<script src="{% static "htmx.js" %}"></script>'
    page = open_page(page_with(element, head))
    expect(page.get_by_role("button", name=re.compile("Notifications"))).to_be_visible()
    publish(project, f"for htmx {number}")
    expect(page.locator("body > ul")).to_contain_text(f"for htmx {number}")


def test_react_component_follows(open_page: Open, project: Project, modules: Path) -> None:
    recipe = "\n".join(block.replace("export ", "") for block in (how_to("react", 0), how_to("react", 1)))
    source = modules.parent / "page.jsx"
    source.write_text(REACT.replace("RECIPE", recipe))
    esbuild = [modules / ".bin/esbuild", source, "--bundle", "--format=esm", "--external:orgrealtime"]
    options = ["--jsx=automatic", "--define:process.env.NODE_ENV='\"production\"'"]
    bundle = subprocess.run([*esbuild, *options], capture_output=True, text=True, check=True, timeout=60)
    project.write("teams/static/react-page.js", bundle.stdout)
    head = "{% load orgrealtime static %}{% orgrealtime_client organization %}"
    script = '<div id="root"></div><script type="module" src="{% static "react-page.js" %}"></script>'
    page = open_page(page_with(script, head))
    expect(page.locator("#root p")).to_have_text("live")
    publish(project, "for React")
    expect(page.locator("#root li")).to_have_text("for React")


@pytest.mark.parametrize("framework", ["react", "vue"])
def test_page_in_typescript_made_by_vite_follows(
    open_page: Open, project: Project, built: Path, framework: str
) -> None:
    for file in built.iterdir():
        project.write(f"teams/static/{file.name}", file.read_text())
    head = "{% load orgrealtime static %}{% orgrealtime_client organization %}"
    script = f'<script type="module" src="{{% static "main.{framework}.js" %}}"></script>'
    page = open_page(page_with(f'<div id="root"></div>{script}', head))
    expect(page.locator("#state")).to_have_text("live")
    publish(project, f"for {framework}")
    expect(page.locator("#notes li")).to_have_text(f"for {framework}")
    page.get_by_role("button", name="Notifications, 1 unread").click()
    listed = page.get_by_role("list", name="Notifications")
    expect(listed.get_by_text(f"for {framework}!", exact=True)).to_be_visible()
