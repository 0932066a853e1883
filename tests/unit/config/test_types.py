"""Web origins and secrets as settings."""

import secrets
from pathlib import Path

import pytest

from htsget_flask.config import describe_risks, read_config
from tests.support.config import faults, local


class TestOriginsAreWrittenInFull:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://*.example.org",
            "https://igv.org/",
            "https://igv.org/app",
            "https://a.org,https://b.org",
            "https://a.org https://b.org",
            "igv.org",
            "https://",
            "//igv.org",
            "https://user@igv.org",
            "https://igv.org:99999",
            "https://igv.org:",
            "https://igv.org:*/",
            "https://igv.org:8*",
            "https://igv.org:80:*",
            "https://*:*",
            "https://[1:2]",
            "https://b\u00fccher.example",
            ".*",
            "None",
            "",
        ],
    )
    @pytest.mark.parametrize("written", ["{!r}", "['https://a.example', {!r}]"])
    def test_origins_that_browsers_never_send_are_refused(self, tmp_path: Path, origin: str, written: str) -> None:
        (line,) = faults(
            tmp_path,
            f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
            f"cors: {{origins: {written.format(origin)}}}\n",
        )
        assert line.startswith(f"cors.origins{'[1]' if '[' in written else ''}: {origin!r} ")

    def test_all_that_are_refused_are_named(self, tmp_path: Path) -> None:
        text = f"storages: {{a: {{type: local, root: {tmp_path}}}}}\ndatasets: [{{prefix: '', storage: a}}]\n"
        lines = faults(tmp_path, f"{text}cors: {{origins: [igv.org, 'https://a.example', 'https://b.example/']}}\n")
        assert [line.partition(" ")[0] for line in lines] == ["cors.origins[0]:", "cors.origins[2]:"]


class TestSecrets:
    SECRET = "a-secret-of-32-characters-0123456"

    def storage(self, tmp_path: Path, *settings: str) -> str:
        lines = ("type: local", f"root: {tmp_path}", *settings)
        return f"storages: {{lab: {{{', '.join(lines)}}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"

    def test_a_file_may_hold_one(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{self.SECRET}\n")
        path = tmp_path / "config.yaml"
        for secret in ("file:key", f"file:{tmp_path / 'key'}", self.SECRET):
            path.write_text(self.storage(tmp_path, "url: https://a.example/raw", f"secret: '{secret}'"))
            config = read_config(path)
            setting = local(config, "lab").secret
            assert setting is not None and setting.get_secret_value() == self.SECRET
            assert self.SECRET not in repr(config) + str(config) + config.model_dump_json()

    def test_a_secret_in_a_storage_of_plain_files_is_a_fault(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "key").write_text(self.SECRET)
        (tmp_path / "key").write_text(self.SECRET)
        settings = ("url: https://a.example/", "secret: 'file:data/key'")
        files = "files: {storages: [lab]}\n"
        path = tmp_path / "config.yaml"
        path.write_text(self.storage(data, *settings))
        assert read_config(path)
        (line,) = faults(tmp_path, self.storage(data, *settings) + files)
        assert line.startswith("files.storages[0]: ") and str(data / "key") in line
        settings = ("url: https://a.example/", "secret: file:key")
        path.write_text(self.storage(data, *settings) + files)
        assert read_config(path)
        # The folder above contains both the configuration and the key.
        assert len(faults(tmp_path, self.storage(tmp_path, *settings) + files)) == 2

    @pytest.mark.parametrize(
        "settings",
        [
            ("secret: s3cret-with-$-in-it-and-more", "url: https://a.example/"),
            ("secret: s3cret", "url: https://a.example/"),
            ("secret: [s3cret-0123456789]", "url: https://a.example/"),
            ("secret: s3cret-0123456789",),
            ("url: https://a.example/",),
            ("secret: file:bad", "url: https://a.example/"),
            ("secret: file:none", "url: https://a.example/"),
            ("secret: s3cret-0123456789", "url: 'https://a.example/?s3cret'"),
            ("secret: s3cret-0123456789", "url: https://a.example/", "expires: 0"),
        ],
    )
    def test_a_fault_is_reported_without_the_secret(self, tmp_path: Path, settings: tuple[str, ...]) -> None:
        (tmp_path / "bad").write_text("s3cret-of-two\nlines-of-s3cret\n")
        lines = faults(tmp_path, self.storage(tmp_path, *settings))
        assert len(lines) == 1 and lines[0].startswith("storages.lab")
        assert "s3cret" not in lines[0]

    def test_an_error_of_yaml_does_not_quote_a_secret(self, tmp_path: Path) -> None:
        text = self.storage(tmp_path, "secret: s3cret-0123456789: x", "url: https://a.example/")
        assert "not valid YAML" in "".join(faults(tmp_path, text)) and "s3cret" not in "".join(faults(tmp_path, text))


class TestWeakSecrets:
    RULES = "rules: [{ids: ['*'], public: true}]"

    def text(self, tmp_path: Path, secret: str) -> str:
        return (
            f"storages: {{lab: {{type: local, root: '{tmp_path}'}}}}\ndatasets: [{{prefix: '', storage: lab}}]\n"
            f"auth: {{secrets: ['{secret}'], {self.RULES}}}\n"
        )

    @pytest.mark.parametrize(
        ("secret", "reason"),
        [
            ("change-me-0123456789", "placeholder"),
            ("CHANGE-ME-0123456789", "placeholder"),
            ("a" * 16, "different characters"),
            ("abcde" * 10, "different characters"),
            ("short-0123456", "16 to 256"),
        ],
    )
    @pytest.mark.parametrize("in_file", [False, True])
    def test_weak_secrets_are_refused(self, tmp_path: Path, secret: str, reason: str, in_file: bool) -> None:
        (tmp_path / "key").write_text(secret + "\n")
        (line,) = faults(tmp_path, self.text(tmp_path, "file:key" if in_file else secret))
        assert line.startswith("auth.secrets[0]: ") and reason in line and secret not in line

    def test_a_client_secret_that_is_a_placeholder(self, tmp_path: Path) -> None:
        introspection = "introspection: {url: 'https://a/', client_id: b, client_secret: change-me}, rules"
        (line,) = faults(tmp_path, self.text(tmp_path, "s3cret-0123456789abc").replace("rules", introspection))
        assert line.startswith("auth.introspection.client_secret: is the placeholder")

    @pytest.mark.parametrize(
        ("file", "reason"),
        [
            ("none", "the file cannot be read"),
            (".", "the file cannot be read"),
            ("bad", "does not hold a secret"),
            ("empty", "must not be empty"),
        ],
    )
    def test_a_file_without_a_client_secret(self, tmp_path: Path, file: str, reason: str) -> None:
        (tmp_path / "bad").write_bytes(b"s3cret-\xff")
        (tmp_path / "empty").write_text("\n")
        introspection = f"introspection: {{url: 'https://a/', client_id: b, client_secret: 'file:{file}'}}, rules"
        (line,) = faults(tmp_path, self.text(tmp_path, "s3cret-0123456789abc").replace("rules", introspection))
        assert line.startswith("auth.introspection.client_secret: ") and reason in line
        assert "s3cret" not in line and "0xff" not in line

    @pytest.mark.parametrize("length", [16, 32])
    def test_random_secrets_are_accepted(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / "config.yaml"
        for _ in range(20):
            path.write_text(self.text(tmp_path, secrets.token_hex(length)))
            read_config(path)

    @pytest.mark.parametrize(
        ("mode", "remark", "fault"),
        [
            (0o600, "", ""),
            (0o640, "", ""),
            (0o644, "chmod o-r", ""),
            (0o602, "", "chmod o-w"),
            (0o666, "", "chmod o-w"),
        ],
    )
    def test_files_that_others_may_change_are_refused(self, tmp_path: Path, mode: int, remark: str, fault: str) -> None:
        key, path = tmp_path / "key", tmp_path / "config.yaml"
        key.write_text("s3cret-0123456789abc")
        key.chmod(mode)
        if fault:
            (line,) = faults(tmp_path, self.text(tmp_path, "file:key"))
            assert line.startswith("auth.secrets[0]: ") and fault in line
            return
        path.write_text(self.text(tmp_path, "file:key"))
        remarks = list(describe_risks(read_config(path)))
        assert len(remarks) == bool(remark)
        assert all(one.startswith("auth.secrets[0]: ") and remark in one for one in remarks)

    @pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o1777, False), (0o755, False)])
    def test_files_that_others_may_replace_are_refused(self, tmp_path: Path, mode: int, is_refused: bool) -> None:
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "key").write_text("s3cret-0123456789abc")
        (folder / "key").chmod(0o600)
        folder.chmod(mode)
        path, text = tmp_path / "config.yaml", self.text(tmp_path, "file:keys/key")
        if is_refused:
            (line,) = faults(tmp_path, text)
            assert line.startswith("auth.secrets[0]: ") and line.endswith("keys: run `chmod o-w` on it")
        else:
            path.write_text(text)
            read_config(path)

    def test_a_key_set_that_others_may_change_is_refused(self, tmp_path: Path) -> None:
        jwks = tmp_path / "jwks.json"
        jwks.write_text("{}")
        jwks.chmod(0o666)
        issuers = "issuers: [{issuer: a, audience: b, jwks: jwks.json}], rules"
        (line,) = faults(tmp_path, self.text(tmp_path, "s3cret-0123456789abc").replace("rules", issuers, 1))
        assert line.startswith("auth.issuers[0].jwks: ") and "chmod o-w" in line
