"""Descriptions of real repositories, of software and of what teaches, shows or lists software."""

from __future__ import annotations

import pytest

from codelupe import Repository
from codelupe_filters.criteria import teaching
from codelupe_filters.kinds import first_told
from codelupe_filters.settings import TEACHING_WORDS, FiltersSettings

SOFTWARE = {
    "psf/requests": "A simple, yet elegant, HTTP library.",
    "encode/httpx": "An awesome fast HTTP client for Python",
    "charmbracelet/vhs": (
        "Your CLI home video recorder - generate terminal GIFs from code for documentation and tutorials."
    ),
    "asciinema/asciinema": "Terminal session recorder. Record and share demos.",
    "denisidoro/navi": "An interactive cheatsheet tool for the command-line",
    "cheat/cheat": "cheat allows you to create and view interactive cheatsheets on the command-line.",
    "vuejs/vitepress": "Vite & Vue powered static site generator. Documentation, tutorials and demo included.",
    "mui/material-ui": "Ready-to-use foundational React components, free forever. Check the demo app and the course.",
    "nolimits4web/swiper": (
        "Most modern mobile touch slider with hardware accelerated transitions. Live demo: https://swiperjs.com/demos"
    ),
    "chartjs/Chart.js": "Simple HTML5 Charts using the <canvas> tag. Awesome looking by default.",
    "fullcalendar/fullcalendar": "Full-sized drag & drop event calendar in JavaScript. See demo for examples.",
    "sindresorhus/ora": "Elegant terminal spinner. And of course it is tested.",
    "sharkdp/bat": "A cat(1) clone with wings.",
    "BurntSushi/ripgrep": (
        "ripgrep recursively searches directories for a regex pattern while respecting your gitignore"
    ),
    "gin-gonic/gin": (
        "Gin is a HTTP web framework written in Go. If you need smashing performance, get yourself some Gin."
    ),
    "tokio-rs/axum": "HTTP routing and request-handling library for Rust that focuses on ergonomics and modularity",
    "junegunn/fzf": "A command-line fuzzy finder",
    "wger-project/wger": (
        "Self hosted FLOSS fitness/workout, nutrition and weight tracker with a large exercise database"
    ),
    "frappe/lms": "Easy to use, open source, learning management system: build online course platforms",
    "r0oth3x49/udemy-dl": (
        "A cross-platform python based utility to download courses from udemy for personal offline use."
    ),
    "openedx/edx-platform": (
        "The Open edX LMS & Studio, powering education sites around the world! Courses are created in Studio."
    ),
    "markusfisch/ShaderEditor": "Create and edit GLSL shaders on your Android phone. Comes with a tutorial.",
    "bevyengine/bevy": (
        "A refreshingly simple data-driven game engine built in Rust. See the tutorials and examples for more."
    ),
    "godotengine/godot": "Multi-platform 2D and 3D game engine with docs, tutorials and demo projects",
    "gatsbyjs/gatsby": (
        "React-based framework with performance and security built in. Step through the tutorial to begin."
    ),
    "google/or-tools": (
        "Combinatorial optimization: scheduling, linear assignment and vehicle routing in Python and C++"
    ),
    "berhane/LAP-solvers": "Benchmarks of solvers of the linear assignment problem",
    "jupyter/nbgrader": "A system for assigning and grading notebooks: release, collect and grade assignments",
    "SteamRE/DepotDownloader": "Downloads depots, and mods from the Steam Workshop",
    "stefanprodan/podinfo": (
        "Podinfo is a tiny web application made with Go that showcases best practices of running "
        "microservices in Kubernetes. Podinfo is used by CNCF projects like Flux and Flagger for "
        "end-to-end testing and workshops."
    ),
    "mkdocs/mkdocs": "Project documentation with Markdown. It's awesome.",
    "vinta/pangu.js": (
        "Why do people think awesome typography needs awesome spacing? Paranoid text spacing in JavaScript"
    ),
    "react-dnd/react-dnd": "Drag and Drop for React. Check out the demos!",
    "lundberg/respx": "Mock HTTPX with awesome request patterns and response side effects.",
    "lsd-rs/lsd": "An ls with a lot of pretty colors and awesome icons",
    "rotisserie/eris": "The most simple error wrapper with awesome performance and minimal memory overhead.",
    "primetalk/goio": (
        "An implementation of IO, Stream, Fiber for Golang, inspired by awesome Scala libraries cats and fs2."
    ),
    "felixblaschke/simple_animations": "Create awesome custom animations easily by Felix Blaschke.",
    "ryanheise/audio_service": "System background audio support by Ryan Heise. Tutorial by Suragch.",
    "meteor/meteor": (
        "An ultra-simple, database-everywhere, data-on-the-wire, pure-JavaScript web framework. (You "
        "might like awesome-meteor)"
    ),
}

TEACHING = [
    "An opinionated list of awesome Python frameworks, libraries, software and resources.",
    "A curated list of awesome Go frameworks, libraries and software",
    "A curated list of awesome golang workshops.",
    "List of other amazingly awesome lists.",
    "\U0001f60e Awesome lists about all kinds of interesting topics",
    "A collection of awesome things regarding React ecosystem",
    "\U0001f389 A curated list of awesome things related to Vue.js",
    "\U0001f422 A collection of awesome browser-side JavaScript libraries, resources and shiny things.",
    "An awesome list that curates the best Flutter libraries, tools, tutorials, articles and more.",
    "Demo for the material design widgets provided by Flutter Team.",
    "Collection of official widgets demos & docs in chinese to help developers learn quickly",
    "A demo project for Spring Boot",
    "Flutter demo app",
    "This is a demo",
    "A simple demo for JWT authentication in Go",
    "Demo application showing the use of gRPC",
    "Simple React Native demo",
    "For demo purposes only",
    "Source code for the demo at PyCon 2019",
    "The fast.ai course notebooks: code for the course",
    "The Hugging Face course on Transformers",
    "Course to get into Large Language Models (LLMs) with roadmaps and Colab notebooks.",
    "A 3-day course on Rust Fundamentals plus 1-day courses on Android, Bare-metal Rust, and Concurrency.",
    "Final course project, CS50",
    "My solutions to the Coursera course on machine learning",
    "Code for my Udemy course",
    "Lecture notes and exercises for the online course",
    "Free Data Engineering course!",
    "Video course on how to make REST APIs using Node.js.",
    "\U0001f980 Small exercises to get you used to reading and writing Rust code!",
    "Exercism exercises in Go.",
    "Free coding exercises for budding gophers.",
    "Solutions to the exercises in The Rust Programming Language",
    "programming exercises that help you learn new concepts in Rust.",
    "Workshop material: advanced TypeScript",
    "Slides and code of my Go workshop",
    "Code from the FastAPI workshop at EuroPython",
    "My Homework, week 3",
    "My assignments of CS231n",
    "Solutions of programming assignments",
    "Coursework for COMP0001",
    "Source code of the tutorial series",
    "Rust tutorial",
    "A tutorial on building a text editor",
    "Code for the YouTube tutorial",
    "Step-by-step tutorial: build a blockchain in Go",
    "Simple tutorials using Google's TensorFlow Framework",
    "Tutorials and guides on development",
    "A set of video tutorials/livestreams to help you build and deploy a real, live web app",
    "Collection of code snippets and tutorials to help tackle every day issues.",
    "A cheatsheet for Bash",
    "Comprehensive Python Cheatsheet",
    "LeetCode solutions in Go",
    "Full-stack bootcamp",
]


@pytest.mark.parametrize("name", SOFTWARE)
def test_software_is_not_taken_for_teaching_material(name: str) -> None:
    repository = Repository(
        source="github", external_id="1", full_name=name, url="u", revision="1", description=SOFTWARE[name]
    )
    assert teaching(repository, FiltersSettings()).detail == "name, topics and description have no excluded word"


@pytest.mark.parametrize("description", TEACHING)
def test_what_teaches_shows_or_lists_is_told_by_its_description(description: str) -> None:
    assert first_told(TEACHING_WORDS, description)


def test_what_was_found_is_told() -> None:
    repository = Repository(
        source="github", external_id="1", full_name="a/b", url="u", revision="1", description="Small. A demo project."
    )
    assert teaching(repository, FiltersSettings()).detail == "the description has 'demo project'"


@pytest.mark.parametrize("word", ["elegant", "HTTP library", "http"])
def test_other_words_count_wherever_they_stand(word: str) -> None:
    assert first_told((word,), SOFTWARE["psf/requests"]) == word


def test_a_word_that_is_not_excluded_is_not_looked_for() -> None:
    assert [text for text in TEACHING if first_told((), text)] == []
    assert first_told(("Demo",), "A demo project")
    assert not first_told(("course",), "A demo project")


def test_a_very_long_description_is_looked_at_in_no_time() -> None:
    for words in ("a ", "code of ", "list of awesome-", "demo ", "of course "):
        first_told(TEACHING_WORDS, words * 20_000)
