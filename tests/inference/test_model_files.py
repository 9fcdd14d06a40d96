from pathlib import Path

import gguf
import pytest
from django.core.management import CommandError, call_command

from inference import model_files
from inference.engine.gguf_file import GgufHeader
from inference.engine.spec import DEMO_PATH
from inference.model_files import NotAdded
from providers import discovery
from providers.models import AuditEntry, Provider, ProviderModel


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-f16.gguf"
    path.write_bytes(DEMO_PATH.read_bytes())
    return path


def embedder(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("Small embedder")
    writer.add_embedding_length(384)
    writer.add_context_length(512)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_file_tells_what_it_is(file: Path) -> None:
    told = model_files.inspect(file)

    assert (told.architecture, told.name, told.quantisation, told.context) == ("llama", "gateway-demo", "F16", 2048)
    assert (told.kind, told.model_id, told.size_bytes) == ("chat", "tiny-f16", file.stat().st_size)
    assert "<|im_start|>" in told.template
    assert told.capabilities == ()


def test_an_embedder_is_known_by_its_pooling(tmp_path: Path) -> None:
    told = model_files.inspect(embedder(tmp_path / "small.gguf"))

    assert (told.kind, told.dimension, told.quantisation) == ("embedding", 384, "Q4_K_M")


def test_quantisations_have_the_names_that_llama_cpp_gives_them() -> None:
    named = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}

    assert {number: named[number] for number in model_files._QUANTISATIONS} == model_files._QUANTISATIONS


def test_a_file_outside_the_allowed_folders_is_refused(file: Path, tmp_path: Path, settings) -> None:
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path / "allowed")]

    with pytest.raises(NotAdded, match="GATEWAY_MODEL_FOLDERS"):
        model_files.inspect(file)


@pytest.mark.parametrize(
    ("path", "told"), [("nope", "does not exist"), (".", "is a folder")], ids=["nothing", "folder"]
)
def test_a_path_without_a_file_is_told_with_where_one_may_lie(path: str, told: str, tmp_path: Path, settings) -> None:
    with pytest.raises(CommandError, match=rf"{told}\. Give the path of a GGUF file; it may lie anywhere"):
        call_command("models", "add", str(tmp_path / path))
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path / "one"), str(tmp_path / "two")]
    with pytest.raises(CommandError, match=rf"{told}\. Models are loaded from {tmp_path}/one, {tmp_path}/two"):
        call_command("models", "add", str(tmp_path / path))


def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "readme.gguf"
    path.write_text("not a model")

    with pytest.raises(NotAdded, match="needs a file in GGUF format"):
        model_files.inspect(path)


@pytest.mark.django_db
def test_adding_registers_the_file_with_its_checksum_once(file: Path, capsys: pytest.CaptureFixture) -> None:
    call_command("models", "add", str(file), "--context", "1024", "--preload")

    row = ProviderModel.objects.get()
    assert (row.route, row.context_window, row.display_name) == ("local/tiny-f16", 2048, "gateway-demo")
    assert row.parameters["model_path"] == str(file)
    assert len(row.parameters["sha256"]) == 64
    assert (row.parameters["context_size"], row.parameters["preload"]) == (1024, True)
    assert "architecture" in capsys.readouterr().out
    assert AuditEntry.objects.filter(actor__startswith="command:models").exists()
    with pytest.raises(CommandError, match="registered already, as local/tiny-f16"):
        call_command("models", "add", str(file))
    assert ProviderModel.objects.count() == 1


@pytest.mark.django_db
def test_a_dry_run_writes_nothing(file: Path, capsys: pytest.CaptureFixture) -> None:
    call_command("models", "add", str(file), "--dry-run")

    assert "would be local/tiny-f16 (a new provider)" in capsys.readouterr().out
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_several_providers_have_to_be_told_apart(file: Path) -> None:
    for name in ("one", "two"):
        Provider.objects.create(provider_id=name, provider_type="llama_cpp")
    Provider.objects.create(provider_id="far", provider_type="openai")

    with pytest.raises(CommandError, match="--provider with one of one, two"):
        call_command("models", "add", str(file))
    with pytest.raises(CommandError, match="loads no GGUF files"):
        call_command("models", "add", str(file), "--provider", "far")
    call_command("models", "add", str(file), "--provider", "two", "--id", "mine", "--no-checksum")
    assert ProviderModel.objects.get().route == "two/mine"


@pytest.mark.django_db
def test_a_file_that_changed_is_found(file: Path, capsys: pytest.CaptureFixture) -> None:
    call_command("models", "add", str(file))
    call_command("models", "verify")
    assert "local/tiny-f16: as registered" in capsys.readouterr().out
    with file.open("r+b") as written:
        written.seek(-1, 2)
        written.write(b"\x01")

    with pytest.raises(SystemExit):
        call_command("models", "verify", "local/tiny-f16")
    assert "ANOTHER FILE" in capsys.readouterr().out


@pytest.mark.django_db
def test_discovery_reads_the_files_of_the_allowed_folders(file: Path, tmp_path: Path, settings) -> None:
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path)]
    embedder(tmp_path / "vectors.gguf")
    provider = Provider.objects.create(provider_id="local", provider_type="llama_cpp")

    offers = {offer.model_id: offer for offer in discovery.offered(provider)}

    assert offers["tiny-f16"].context_window == 2048
    assert offers["tiny-f16"].note.startswith("llama · F16")
    assert offers["vectors"].model_type == "embedding"


def test_a_header_with_something_else_for_its_quantisation_is_described_without() -> None:
    header = GgufHeader({"general.architecture": "llama", "general.file_type": [1]}, (), 0)

    assert model_files.described(Path("a.gguf"), header).quantisation == ""
