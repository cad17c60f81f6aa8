"""Which bundles of random weights xai-evaluate's sanity check takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from xai_deploy import Bundle, Explainer, read_image
from xai_deploy.format.randomised import Randomised
from xai_deploy.similarity import spearman

from . import nets
from .conftest import Refused, Run


class TestRandomised:
    """Which bundles the sanity check takes."""

    SANITY = ("--metrics", "sanity,complexity")

    def test_in_their_order(self, desk: Path, run: Run) -> None:
        """2 before 10; the figures are those of each step."""
        layers = tuple(f"layer{n}" for n in range(12))

        for step in range(1, 12):
            random = Randomised(step, 11, 0, layers)
            nets.write(desk / f"net.randomised-{step}-of-11.xai", step, randomised=random)
        run(*self.SANITY)
        row = pyarrow.parquet.read_table("out/images.parquet").to_pylist()[0]
        pixels = read_image(f"photos/{row['image']}")
        own = Explainer("net.xai").explain(pixels)
        for step in (1, 2, 10, 11):
            other = Explainer(f"net.randomised-{step}-of-11.xai").explain(pixels, target=int(own.target[0]))
            assert row[f"sanity-{step}"] == pytest.approx(float(spearman(own.heatmap, other.heatmap)[0]), abs=2e-3)

    def test_of_several_sets_the_one_of_most_steps(
        self, desk: Path, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for of in (2, 3):
            nets.write_randomised(desk / "net.xai", of, 10 * of)
        nets.write_randomised(desk / "net.xai", 5)[3].rename(desk / "elsewhere")  # 4 of 5 is missing
        for lure in ("net2.randomised-1-of-9.xai", "xnet.randomised-1-of-1.xai", "net.randomised-x-of-y.xai"):
            Path(lure).mkdir()
        Path("net.randomised-01-of-1.xai").touch()
        found = run(*self.SANITY)
        (network,) = found["plan"]["networks"]
        digests = [Explainer(f"net.randomised-{s}-of-3.xai").bundle.manifest.digest for s in (1, 2, 3)]
        assert network["randomised"] == digests
        assert [name for name in found["results"][0]["figures"] if name.startswith("sanity")] == [
            "sanity-1",
            "sanity-2",
            "sanity-3",
        ]
        assert capsys.readouterr().err == (
            "xai-evaluate: warning: net.xai: has randomised bundles of 2 and of 3 and of 5 steps; the metric sanity uses those "
            "of 3\n"
        )

    def test_however_the_bundle_is_named(
        self, desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.move("net.xai", "n[e]*t.xai")
        nets.write_randomised(desk / "n[e]*t.xai", 1)
        nets.write_randomised(desk / "net.xai", 2)
        for number, name in enumerate(("n[e]*t.xai", "n[e]*t.xai/", str(desk / "n[e]*t.xai"))):
            found = run(*self.SANITY, bundles=(name,), out=f"out{number}")
            assert len(found["plan"]["networks"][0]["randomised"]) == 1
        monkeypatch.chdir(desk / "n[e]*t.xai")
        found = run(*self.SANITY, bundles=(".",), images="../photos", out="../o")
        assert len(found["plan"]["networks"][0]["randomised"]) == 1
        assert capsys.readouterr().err == ""

    def test_only_where_it_is_asked_for(self, desk: Path, run: Run) -> None:
        Path("net.randomised-1-of-2.xai").mkdir()
        assert run()["plan"]["networks"][0]["randomised"] == []

    def test_of_two_networks_one_has_them(self, desk: Path, run: Run) -> None:
        nets.write(desk / "other.xai", 1)
        nets.write_randomised(desk / "other.xai", 2)
        found = run(*self.SANITY, bundles=("net.xai", "other.xai"))
        first, second = (result["figures"] for result in found["results"])
        assert not any(name.startswith("sanity") for name in first)
        assert {"sanity-1", "sanity-2"} <= set(second)

    def test_none(self, refused: Refused) -> None:
        line = refused("net.xai", *self.SANITY)
        assert line.endswith(
            "sanity: needs randomised bundles beside the bundle; export again with xai-export --randomise N\n"
        )
        assert not Path("xai-evaluation").exists()

    def test_a_part(self, desk: Path, refused: Refused) -> None:
        nets.write_randomised(desk / "net.xai", 3)[1].rename("elsewhere")
        line = refused("net.xai", *self.SANITY)
        assert "net.xai: only 2 of its 3 randomised bundles exist; export it again" in line

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p: nets.write(p, 1), "is not step 2 of 3 of randomising"),  # a trained one under this name
            (lambda p: shutil.copytree(p.with_name("net.randomised-1-of-3.xai"), p), "is not step 2 of 3"),
            (lambda p: _randomised(p, 2, 4, 100), "is not step 2 of 3"),
            (lambda p: _randomised(p, 2, 3, 100, classes=6), "is not step 2 of 3"),
            (lambda p: _randomised(p, 2, 3, 100, size=(16, 24)), "is not step 2 of 3"),
            (lambda p: _randomised(p, 2, 3, 7), "its randomised bundles were made with different seeds"),
            (lambda p: p.mkdir(), "no manifest.json in it"),
        ],
    )
    def test_of_another_network(
        self, desk: Path, refused: Refused, change: Callable[[Path], object], message: str
    ) -> None:
        nets.write_randomised(desk / "net.xai", 3)
        shutil.rmtree("net.randomised-2-of-3.xai")
        change(desk / "net.randomised-2-of-3.xai")
        assert message in refused("net.xai", *self.SANITY)

    def test_of_earlier_weights(self, desk: Path, run: Run, refused: Refused) -> None:
        """The network was trained anew and exported over its bundle, without --randomise; or exported again as it was."""
        random = Randomised(1, 1, 0, ("fc",), Bundle.open("net.xai").manifest.network)
        nets.write(desk / "net.randomised-1-of-1.xai", 5, randomised=random)
        shutil.rmtree("net.xai")
        nets.write(desk / "net.xai", labels=("a", "b", "c", "d", "e"))
        assert len(run(*self.SANITY)["plan"]["networks"][0]["randomised"]) == 1
        shutil.rmtree("net.xai")
        nets.write(desk / "net.xai", 1)
        assert refused("net.xai", *self.SANITY) == (
            f"xai-evaluate: error: {desk / 'net.randomised-1-of-1.xai'}: was made from other weights than those of net.xai; "
            "export both again with --randomise\n"
        )


def _randomised(path: Path, step: int, of: int, seed: int, **options: object) -> None:

    nets.write(path, step, randomised=Randomised(step, of, seed, ("a", "b", "c")), **options)  # type: ignore[arg-type]
