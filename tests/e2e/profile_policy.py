"""The policy of the tests of providers that speak nearly the same, each in front of its persona."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sold:
    """A route to a persona: its preset, its price for an image in USD, and what else its provider says."""

    preset: str
    price: str
    persona: str = ""
    more: str = ""
    charged_for: str = "succeeded"

    @property
    def path(self) -> str:
        """Where the persona answers."""
        return f"/likes/{self.persona or self.preset}/v1"


PLAIN = "parameters: [{name: model}, {name: prompt}, {name: n}, {name: size}]"
"""Nothing is said of how images are to come, so that they come as this provider likes best."""

LIKES = {
    "openrouter": Sold("openrouter", "0.05"),
    "xai": Sold("xai", "0.08", charged_for="succeeded, moderated"),
    "together": Sold("together", "0.027"),
    "deepinfra": Sold("deepinfra", "0.015"),
    "recraft": Sold("recraft", "0.04"),
    "vllm-omni": Sold("vllm-omni", "0.003"),
    "sglang": Sold("sglang", "0.003"),
    "localai": Sold("localai", "0.003"),
    "stable-diffusion-cpp": Sold("stable-diffusion-cpp", "0.003"),
    "sglang-links": Sold("sglang", "0.003", more=PLAIN),
    "localai-links": Sold("localai", "0.003", more=PLAIN),
}
AZURE = ("azure-v1", "azure-deployments")
NAMES = (*LIKES, *AZURE, "fallback")

MODEL = """
models:
  canvas:
    capabilities:
      operations: [generate, edit]
      n: 10
      references: 4
      mask: true
      transparent: false
      stream: true
      quality: [low, medium, high]
      output_formats: [png, jpeg, webp]
      sizes: {multiple: 8, max_edge: 2048, max_pixels: 4194304}
    price: [{from: 2026-01-01, source: {url: "https://example.com/prices"}, per_image: "0.10"}]
"""


def policy() -> str:
    """One job type for each of them, of the same name."""
    providers = [
        f'  {name}: {{preset: {sold.preset}, base_url: "${{SANDBOX_URL}}{sold.path}", api_key: "${{SANDBOX_KEY}}"'
        f"{', ' + sold.more if sold.more else ''}}}"
        for name, sold in LIKES.items()
    ]
    providers += [
        f'  {name}: {{preset: {name}, base_url: "${{SANDBOX_URL}}/azure", api_key: "${{SANDBOX_KEY}}"}}'
        for name in AZURE
    ]
    since = 'from: 2026-01-01, source: {url: "https://example.com/prices"}'
    routes = [
        f"  {name}/canvas: {{provider: {name}, model: canvas, upstream_model: {name}-canvas, "
        f'price: [{{{since}, per_image: "{sold.price}", charged_for: [{sold.charged_for}]}}]}}'
        for name, sold in LIKES.items()
    ]
    routes += [
        f"  {name}/gpt-image-2: {{provider: {name}, model: gpt-image-2, upstream_model: team-gpt-image-2-2026-04-21}}"
        for name in AZURE
    ]
    job_types = [f"  {name}: {{routes: [{name}/canvas]}}" for name in LIKES]
    job_types += [f"  {name}: {{routes: [{name}/gpt-image-2], defaults: {{quality: low}}}}" for name in AZURE]
    job_types.append("  fallback: {routes: [stable-diffusion-cpp/canvas, deepinfra/canvas]}")
    lines = [
        'egress: {allow: ["127.0.0.0/8"]}',
        "providers:",
        *providers,
        "routes:",
        *routes,
        "job_types:",
        *job_types,
        "projects:",
        "  team:",
        f"    job_types: [{', '.join(NAMES)}]",
        "    default_job_type: xai",
        '    budgets: [{window: day, limit: "1000"}]',
    ]
    return MODEL + "\n".join(lines) + "\n"
