"""From an environment to what is built: python, requirement lines, notes."""

from typing import Any

import pytest

from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock.environments.lookups import curated, of_image
from penstock.environments.tables import shipped, tables_of
from penstock.errors import Invalid
from penstock_executor.decide.recipes import Recipe, differences, nearest, recipe_of

TABLES = shipped()
HERE = ((3, 11), (3, 12))


def made(**fields: Any) -> Recipe:
    found = recipe_of(EnvironmentSpec(**fields), TABLES, HERE, "train")
    assert found is not None
    return found


def test_requirement_lines_are_taken_as_they_are() -> None:
    recipe = made(pip=("numpy<2", "  pandas==2.2.3  # a comment", "", "# nothing", "--pre"))
    assert recipe == Recipe((3, 11), ("numpy<2", "pandas==2.2.3"))


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("numpy", "numpy"),
        ("numpy=1.22", "numpy==1.22.*"),
        ("numpy=1.22.*", "numpy==1.22.*"),
        ("numpy==1.22.3", "numpy==1.22.3"),
        ("numpy=1.22.3=py38_0", "numpy==1.22.3"),
        ("numpy 1.22.3 py38_0", "numpy==1.22.3"),
        ("numpy 1.22", "numpy==1.22"),
        ("numpy>=1.20,<2", "numpy>=1.20,<2"),
        ("numpy >=1.20, <2", "numpy>=1.20,<2"),
        ("conda-forge::lightgbm=4.6", "lightgbm==4.6.*"),
        ("pytorch=2.1", "torch==2.1.*"),
        ("py-xgboost", "xgboost"),
        ("scikit-learn[version='>=1.1,<1.6']", "scikit-learn>=1.1,<1.6"),
        ("numpy=1.22|1.23", "numpy==1.22.*"),
    ],
)
def test_a_conda_package_is_asked_for_by_the_name_and_version_the_index_knows(
    conda: str, pip: str
) -> None:
    assert made(conda={"dependencies": [conda]}).requirements == (pip,)


def test_a_conda_file_gives_its_python_its_packages_and_its_pip_section() -> None:
    recipe = made(
        conda={
            "name": "whatever",
            "channels": ["conda-forge"],
            "dependencies": [
                "python=3.8",
                "pip=20.2",
                "cudatoolkit=11",
                "joblib",
                {"pip": ["rich"]},
            ],
        }
    )
    assert recipe == Recipe(
        python=(3, 11),
        requirements=("joblib", "rich"),
        notes=(
            "of the conda file, not for a virtual environment: cudatoolkit",
            "python 3.8 is not on this machine (there is 3.11, 3.12): this is 3.11, the nearest",
        ),
        conda=("joblib",),
        exact=False,
    )


@pytest.mark.parametrize(
    ("python", "taken", "exact"),
    [
        ("", (3, 11), True),
        ("3.12", (3, 12), True),
        ("3.12.4", (3, 12), True),
        ("3", (3, 11), True),
        (">=3.8", (3, 11), True),
        (">=3.6,<3.9", (3, 11), False),
        ("3.7", (3, 11), False),
        ("3.14", (3, 12), False),
    ],
)
def test_the_pinned_python_is_taken_or_else_the_nearest(
    python: str, taken: tuple[int, int], exact: bool
) -> None:
    recipe = made(python=python, pip=("rich",))
    assert (recipe.python, recipe.exact) == (taken, exact)
    assert bool(recipe.notes) is not exact


def test_packages_that_speak_to_azure_are_replaced_by_what_scripts_rely_on() -> None:
    recipe = made(pip=("azureml-defaults", "azureml-mlflow==1.42.0", "pandas", "azureml-core~=1.4"))
    assert recipe.requirements == ("mlflow-skinny", "pandas")
    assert recipe.notes == (
        "stand-ins take the place of azureml-defaults, azureml-mlflow, azureml-core",
    )


def test_what_is_replaced_is_not_asked_for_twice() -> None:
    recipe = made(pip=("azureml-dataset-runtime[pandas]", "pandas==1.5.3"))
    assert recipe.requirements == ("pyarrow", "numpy", "pandas==1.5.3")


def test_an_image_alone_is_the_executors_own_interpreter() -> None:
    image = EnvironmentSpec(image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04")
    assert recipe_of(image, TABLES, HERE, "train") is None


def test_a_curated_image_is_its_list_of_packages() -> None:
    recipe = made(image="mcr.microsoft.com/azureml/curated/sklearn-1.5:12")
    assert "scikit-learn>=1.5,<1.6" in recipe.requirements
    assert recipe.notes[0].endswith("its packages are those of sklearn-1.5")


def test_of_an_image_with_a_conda_file_the_conda_file_counts() -> None:
    recipe = made(image="python:3.8", conda={"dependencies": ["joblib"]})
    assert recipe.requirements == ("joblib",)
    assert recipe.notes == (
        "image python:3.8 is not used on a process target: only the packages of the environment are",
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"build": BuildContext(context="artifact:" + "a" * 64)}, "is built from a Dockerfile"),
        ({"pip": ("-r requirements.txt",)}, "refers to a file"),
        ({"pip": ("-e .",)}, "refers to a file"),
        ({"pip": ("./own.whl",)}, "refers to a file"),
        ({"pip": ("a\nb",)}, "is no line of requirements"),
        ({"pip": ("a",) * 1001}, "1,001 requirements; allowed: 1,000"),
        ({"conda": {"dependencies": "numpy"}}, "is no list"),
        ({"conda": {"dependencies": ["!"]}}, "is no conda package"),
        ({"python": "latest", "pip": ("a",)}, "is no version"),
    ],
)
def test_what_cannot_be_built_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        made(**fields)
    assert (refused.value.code, refused.value.where) == ("E_ENVIRONMENT", "train")


def test_the_nearest_versions_are_not_below_the_pins() -> None:
    recipe = made(
        python="3.8",
        pip=(
            "numpy==1.21.2",
            "pandas>=1.1,<1.2",
            "scipy~=1.7.0",
            "joblib[x]==1.1.* ; python_version > '3'",
            "rich",
            "--find-links ./wheels",
        ),
    )
    assert nearest(recipe).requirements == (
        "numpy>=1.21.2",
        "pandas>=1.1",
        "scipy>=1.7.0",
        "joblib[x]>=1.1 ; python_version > '3'",
        "rich",
        "--find-links ./wheels",
    )


def test_what_differs_from_the_pins_is_named() -> None:
    recipe = made(pip=("numpy==1.21.2", "pandas>=1.1,<1.2", "scipy~=1.7.0", "a==1.0", "b==2.*"))
    installed = {"numpy": "1.23.2", "pandas": "1.5.0", "scipy": "1.7.3", "a": "1", "b": "2.4"}
    assert differences(recipe, installed) == [
        "numpy 1.23.2 (asked: ==1.21.2)",
        "pandas 1.5.0 (asked: <1.2)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu",
        "azureml:AzureML-sklearn-1.0-ubuntu20.04-py38-cpu@latest",
        "azureml:AzureML-sklearn-1.0-ubuntu20.04-py38-cpu:33",
        "azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
        "azureml://registries/azureml/environments/sklearn-1.5/versions/12",
        "sklearn-1.5",
    ],
)
def test_a_curated_name_is_known_in_every_spelling(text: str) -> None:
    found = curated(text, TABLES)
    assert found is not None
    assert any(line.startswith("scikit-learn") for line in found.pip)


def test_tables_of_ones_own_come_first() -> None:
    from penstock.environments.lookups import laid_over

    own = tables_of(b"curated: [{name: sklearn-1.5, pip: [only-this]}]", "own")
    found = curated("sklearn-1.5", laid_over(own, TABLES))
    assert found is not None
    assert found.pip == ("only-this",)
    with pytest.raises(Invalid, match="no tables of environments"):
        tables_of(b"aliases: {}", "own")


def test_no_shipped_image_means_an_environment_that_no_table_has() -> None:
    for name in ("sklearn-1.5", "acpt-pytorch-2.8-cuda12.6", "lightgbm-3.3"):
        assert of_image(f"mcr.microsoft.com/azureml/curated/{name}:1", TABLES) is not None
