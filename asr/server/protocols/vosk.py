"""The WebSocket protocol of vosk-server: exactly one reply to every message with audio."""

from __future__ import annotations

import json
from typing import Any

from asr.server.conversation import Send, log_results
from asr.server.failures import ClientError
from asr.server.inbox import Audio, End
from asr.server.log import log
from asr.server.pcm import Pcm
from asr.server.service import Service
from asr.server.stream import Stream
from asr.server.websocket import json_object
from asr.streaming.results import Result, Word

NAME = "vosk"
SAMPLE_RATE = 8_000  # until a client sets another
MOST_ALTERNATIVES = 20
RESET = object()


def complain(code: str, message: str) -> None:
    """The protocol has no message for failures: the close frame has the reason."""


class VoskSpeaker:
    """The server's side of a session."""

    merge = False

    def __init__(self, service: Service, send: Send) -> None:
        self._service = service
        self._send = send
        self._stream = Stream(service, NAME, self._pcm(SAMPLE_RATE))
        self._stream.go_on_with(service.recognizer.with_readable(False))  # what clients of Vosk expect
        self._words = True
        self._alternatives = 0
        self._partial = ""
        self._unusable: list[str] = []  # phrases, until the client has been told

    @property
    def seconds(self) -> float:
        return self._stream.seconds

    async def open(self) -> None:
        pass

    def parse(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            return Audio.now(message)
        content = json_object(message)
        if "config" in content:
            if not isinstance(content["config"], dict):
                raise ClientError("bad_request", 'config must be an object, such as {"sample_rate": 16000}')
            return content["config"]
        if content.get("eof"):
            return End()
        if content.get("reset"):
            return RESET
        raise ClientError("bad_request", f"unknown message {json.dumps(content)[:60]}; send config, eof or reset")

    async def handle(self, item: Any) -> None:
        if isinstance(item, dict):
            await self._configure(item)
        elif item is RESET:
            await self._send(self._final(await self._stream.flush()))
        else:
            reply = self._reply(await self._stream.hear(item))
            if self._unusable:  # the protocol has no reply to a configuration
                reply["unusable_phrases"], self._unusable = self._unusable, []
            await self._send(reply)

    async def end(self, end: End) -> None:
        await self._send(self._final(await self._stream.flush()))

    async def _configure(self, config: dict[str, Any]) -> None:
        self._words = bool(config.get("words", self._words))
        alternatives = config.get("max_alternatives", self._alternatives)
        if type(alternatives) is not int or alternatives < 0:
            raise ClientError("bad_request", f"max_alternatives must be a whole number from 0, got {alternatives!r}")
        self._alternatives = min(alternatives, MOST_ALTERNATIVES)
        self._stream.most_texts = self._alternatives if self._service.recognizer.decoder == "lm" else 0
        if "sample_rate" in config:
            self._stream.change(self._pcm(config["sample_rate"]))
        if phrases := config.get("phrase_list"):
            if not isinstance(phrases, list):
                raise ClientError("bad_request", "phrase_list must be a list of phrases")
            if self._stream.seconds:
                raise ClientError("bad_request", "a phrase_list must come before the audio")
            checked = await self._service.hotwords.checked(phrase for phrase in phrases if phrase != "[unk]")
            # Held as long as the stream lasts: by that the server knows which lists are in use.
            self._recognizer = await self._service.hotwords.recognizer(checked)
            self._stream.begin_with(self._recognizer.with_readable(False))
            if checked.unusable:
                log("phrases cannot be used", protocol=NAME, phrases=checked.described()["unusable"])
                self._unusable = [phrase for phrase, _ in checked.unusable]

    def _pcm(self, sample_rate: Any) -> Pcm:
        try:
            sample_rate = float(sample_rate)  # some clients send a string
        except (TypeError, ValueError) as error:
            raise ClientError("bad_request", f"sample_rate must be a number, got {sample_rate!r}") from error
        return Pcm("s16le", sample_rate, self._service.recognizer.sample_rate)

    def _reply(self, results: tuple[Result, ...]) -> dict[str, Any]:
        for result in results:
            self._partial = "" if result.final else result.text
        finals = tuple(result for result in results if result.final and result.words)
        return self._spoken(finals) if finals else {"partial": self._partial}

    def _final(self, results: tuple[Result, ...]) -> dict[str, Any]:
        self._partial = ""
        return self._spoken(tuple(result for result in results if result.final))

    def _spoken(self, finals: tuple[Result, ...]) -> dict[str, Any]:
        log_results(self._service, finals)
        words = [word for final in finals for word in final.words]
        content: dict[str, Any] = {"text": " ".join(word.text for word in words)}
        timed = [_word(word) for word in words]
        if self._alternatives:
            confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
            content = {"confidence": round(confidence, 4), **({"result": timed} if self._words else {}), **content}
            others = self._stream.texts[1:] if words and len(finals) == 1 else ()
            share = self._stream.texts[0].probability if others else 1.0
            # Of the others only the text is known; their confidence falls as their probability does.
            rest = [{"confidence": round(confidence * one.probability / share, 4), "text": one.text} for one in others]
            return {"alternatives": [content, *rest]}
        return {"result": timed, **content} if self._words and words else content


def _word(word: Word) -> dict[str, Any]:
    return {
        "conf": round(word.confidence, 4),
        "start": round(word.start_seconds, 3),
        "end": round(word.end_seconds, 3),
        "word": word.text,
    }
