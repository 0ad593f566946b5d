"""What one training step does: paired (pix2pix and its heirs) or unpaired (CycleGAN). No loop in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceinpaint_cli.errors import ModelError
from faceinpaint_cli.models.device import resolve_precision
from faceinpaint_cli.models.registry import build_discriminator, build_generator
from faceinpaint_train import losses
from faceinpaint_train.distributed import Team
from faceinpaint_train.muon import Muon, is_filter
from faceinpaint_train.schedule import rate_factor

Recipe = dict[str, Any]


def precision_of(name: str, device: torch.device) -> torch.dtype | None:
    """The type to autocast to; None for float32. auto is bf16 where the device computes it in hardware, else float32:
    float16 would need its gradients scaled."""
    return torch.bfloat16 if resolve_precision(name, device) == torch.bfloat16 else None


class Objective:
    """The generator, its judges, their optimisers, and one step of them on a batch.

    Subclasses define `step(truth, shown, mask, number, progress) -> figures`: `truth` and `shown` (damaged, or
    the same) are (N, 3, S, S) in [-1, 1], `mask` (N, 1, S, S), 1 = hole; figures are scalars still on the device, so
    that nothing waits for them on the way.
    """

    def __init__(self, recipe: Recipe, team: Team) -> None:
        self.recipe, self.team = recipe, team
        self.loss = recipe["loss"]
        self.told = float(recipe["model"]["told"])
        self.dtype = precision_of(recipe["run"]["precision"], team.device)
        self.recorded = recipe["run"]["graph"]
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.perceptual: losses.PerceptualVgg16 | None = None
        self.generator = self.add("generator", build_generator(recipe["model"]["name"], **recipe["model"]["options"]))

    def add(self, name: str, module: nn.Module) -> nn.Module:
        module = module.to(self.team.device, memory_format=torch.channels_last)
        self.modules[name] = module
        return module

    def compile(self) -> None:
        """Let torch.compile make the generator's code; its weights keep their names."""
        self.generator.compile()

    def add_optimiser(self, name: str, modules: Sequence[nn.Module], judge: bool = False) -> None:
        """AdamW over the parameters of `modules`; with optimiser.name "muon" the generator's filters go to Muon."""
        o = self.recipe["optimiser"]
        rate, betas = (o["lr_discriminator"], o["betas_discriminator"]) if judge else (o["lr"], o["betas"])
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        filters = [] if judge or o["name"] == "adamw" else [p for key, p in named if is_filter(key, p)]
        chosen = {id(p) for p in filters}
        rest = [p for _, p in named if id(p) not in chosen]
        # fused: a third of the time on a CPU, where it is not the default
        self.optimisers[name] = torch.optim.AdamW(
            rest, rate, betas=(betas[0], betas[1]), weight_decay=0.0, fused=self.team.device.type in ("cpu", "cuda")
        )
        if filters:
            self.optimisers[f"{name}.filters"] = Muon(filters, rate)
        for optimiser in self.team_of(name):
            for group in optimiser.param_groups:
                group["highest"] = rate

    def team_of(self, name: str) -> list[torch.optim.Optimizer]:
        """The optimisers that step together as `name`."""
        return [o for key, o in self.optimisers.items() if key.partition(".")[0] == name]

    def set_rates(self, number: int, progress: float) -> float:
        o = self.recipe["optimiser"]
        factor = rate_factor(number, progress, o["warmup"], o["flat"])
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                rate = group["highest"] * factor
                if self.recorded:
                    self.set_recorded_rate(group, rate)
                else:
                    group["lr"] = rate
        return factor * o["lr"]

    def set_recorded_rate(self, group: dict[str, Any], rate: float) -> None:
        """The rate where a recorded step reads it anew each time: in the device's memory."""
        if not (isinstance(group["lr"], Tensor) and group["lr"].is_cuda):
            group["lr"] = torch.zeros((), device=self.team.device)
            group["capturable"] = True
        group["lr"].fill_(rate)

    def terms_at(self, progress: float) -> tuple[bool, ...]:
        """Which terms of the loss count at `progress`: while these are the same, so is the work of a step."""
        return ()

    def descend(self, name: str, loss: Tensor) -> Tensor:
        """One step of the optimisers of `name` down `loss`; the gradient's norm before clipping."""
        together = self.team_of(name)
        parameters = [p for optimiser in together for group in optimiser.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.team.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe["optimiser"]["clip"] or math.inf)
        # a recorded step cannot ask: the run then ends on the figures of this step
        if self.recorded or torch.isfinite(norm):
            for optimiser in together:
                optimiser.step()
        return norm

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.team.device.type, self.dtype or torch.float32, enabled=self.dtype is not None)

    def step(self, truth: Tensor, shown: Tensor, mask: Tensor, number: int, progress: float) -> dict[str, Tensor]:
        raise NotImplementedError


class Paired(Objective):
    """L1, perceptual and adversarial terms between the prediction and the truth."""

    def __init__(self, recipe: Recipe, team: Team) -> None:
        super().__init__(recipe, team)
        self.part = recipe["model"]["part"]
        trained = self.generator if self.part == "whole" else getattr(self.generator, self.part, None)
        if trained is None:
            raise ModelError(f"generator {recipe['model']['name']!r} has no part {self.part!r}: set model.part=whole")
        self.generator.requires_grad_(False)
        self.trained = trained.requires_grad_(True)
        self.add_optimiser("generator", [trained])
        self.discriminator: nn.Module | None = None
        if recipe["discriminator"]["name"]:
            judge = build_discriminator(recipe["discriminator"]["name"], **recipe["discriminator"]["options"])
            self.discriminator = self.add("discriminator", judge)
            self.add_optimiser("discriminator", [judge], judge=True)
        if self.loss["perceptual"]:
            path = self.loss["perceptual_weights"]
            network = losses.PerceptualVgg16(Path(path) if path else None, self.loss["perceptual_layers"])
            self.perceptual = network.to(team.device, memory_format=torch.channels_last)

    def compile(self) -> None:
        """The part that is trained alone: the first stage is called on its own, not by way of the whole network."""
        self.trained.compile()

    def terms_at(self, progress: float) -> tuple[bool, ...]:
        """Whether the adversarial and the perceptual term count at `progress`."""
        loss = self.loss
        judged = self.discriminator is not None and loss["adversarial_weight"] and progress >= loss["adversarial_from"]
        return bool(judged), self.perceptual is not None and progress >= loss["perceptual_from"]

    def predict(self, net: nn.Module, shown: Tensor, mask: Tensor) -> Tensor:
        """At the resolution of the part that is trained."""
        told = mask * self.told
        if self.part == "coarse":
            return net.coarse_picture(shown, told)[0]
        return net(shown, told)

    def step(self, truth: Tensor, shown: Tensor, mask: Tensor, number: int, progress: float) -> dict[str, Tensor]:
        loss = self.loss
        adversarial, perceptual = self.terms_at(progress)
        with self.autocast():
            whole = self.predict(self.generator, shown, mask)
        whole = whole.float()
        if whole.shape != truth.shape:
            truth = F.interpolate(truth, size=whole.shape[2:], mode="area")
            mask = F.interpolate(mask, size=whole.shape[2:], mode="area")
        terms = {"l1": losses.l1(whole, truth, mask, loss["hole"], loss["rest"])}
        total = terms["l1"]
        figures: dict[str, Tensor] = {}
        done = torch.lerp(truth, whole, mask)
        if loss["judge_crop"]:
            done, truth, mask = losses.hole_crop([done, truth, mask], mask, loss["judge_crop"])
        if self.discriminator is not None and adversarial:
            figures |= self.judge(truth, done, mask)
            with self.autocast():
                scores, made = self.discriminator(done, mask)
                with torch.no_grad():
                    real = self.discriminator(truth, mask)[1]
            terms["adversarial"] = losses.generator_loss(loss["adversarial"], scores.float())
            total = total + loss["adversarial_weight"] * terms["adversarial"]
            if loss["features"]:
                terms["features"] = losses.feature_matching([m.float() for m in made], [r.float() for r in real])
                total = total + loss["features"] * terms["features"]
        if self.perceptual is not None and perceptual:
            with self.autocast():
                terms["perceptual"] = self.perceptual(done, truth)
            total = total + loss["perceptual"] * terms["perceptual"]
        figures |= {key: value.detach() for key, value in terms.items()}
        figures["loss"] = total.detach()
        figures["gradient"] = self.descend("generator", total)
        return figures

    def judge(self, truth: Tensor, done: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator."""
        assert self.discriminator is not None
        kind, weight = self.loss["adversarial"], self.loss["r1"]
        real = truth.detach().requires_grad_(bool(weight))
        with self.autocast():
            real_scores = self.discriminator(real, mask)[0].float()
            made_scores = self.discriminator(done.detach(), mask)[0].float()
        total = losses.discriminator_loss(kind, real_scores, made_scores)
        if weight:
            total = total + weight * losses.r1_penalty(real_scores, real)
        self.descend("discriminator", total)
        return {"discriminator": total.detach()}


class Cycle(Objective):
    """CycleGAN (Zhu et al. 2017): damaged to whole and back, without pairs.

    The whole faces of a batch are other faces than the damaged ones. Nothing in the cycle keeps colours from being
    turned over on the way and back; the identity term does (their section 5.2). Only the generator damaged -> whole is
    kept; it is never told the mask.
    """

    def __init__(self, recipe: Recipe, team: Team) -> None:
        super().__init__(recipe, team)
        name, options = recipe["model"]["name"], recipe["model"]["options"]
        self.breaker = self.add("breaker", build_generator(name, **options))
        judge = recipe["discriminator"]
        self.judges = {
            key: self.add(key, build_discriminator(judge["name"], **judge["options"]))
            for key in ("judge_whole", "judge_broken")
        }
        self.add_optimiser("generators", [self.generator, self.breaker])
        self.add_optimiser("judges", list(self.judges.values()), judge=True)

    def step(self, truth: Tensor, shown: Tensor, mask: Tensor, number: int, progress: float) -> dict[str, Tensor]:
        kind, weight = self.loss["adversarial"], self.loss["adversarial_weight"]
        none = torch.zeros_like(mask)
        whole = truth.roll(1, 0)
        with self.autocast():
            mended, broken = self.generator(shown, none), self.breaker(whole, none)
            back_shown, back_whole = self.breaker(mended, none), self.generator(broken, none)
            score_mended = self.judges["judge_whole"](mended, none)[0]
            score_broken = self.judges["judge_broken"](broken, none)[0]
            kept = (self.generator(whole, none), self.breaker(shown, none)) if self.loss["identity"] else None
        cycle = (back_shown.float() - shown).abs().mean() + (back_whole.float() - whole).abs().mean()
        adversarial = losses.generator_loss(kind, score_mended.float())
        adversarial = adversarial + losses.generator_loss(kind, score_broken.float())
        total = weight * adversarial + self.loss["cycle"] * cycle
        figures = {"cycle": cycle.detach(), "adversarial": adversarial.detach()}
        if kept is not None:
            identity = (kept[0].float() - whole).abs().mean() + (kept[1].float() - shown).abs().mean()
            total = total + self.loss["identity"] * self.loss["cycle"] * identity
            figures["identity"] = identity.detach()
        figures["loss"] = total.detach()
        figures["gradient"] = self.descend("generators", total)
        with self.autocast():
            scores = [
                (self.judges[key](real, none)[0].float(), self.judges[key](made.detach(), none)[0].float())
                for key, real, made in (("judge_whole", whole, mended), ("judge_broken", shown, broken))
            ]
        judged = torch.stack([losses.discriminator_loss(kind, real, made) for real, made in scores]).sum()
        figures["discriminator"] = judged.detach()
        self.descend("judges", judged)
        return figures


def build_objective(recipe: Recipe, team: Team) -> Objective:
    return (Cycle if recipe["loss"]["cycle"] else Paired)(recipe, team)
