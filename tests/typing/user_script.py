"""What a user writes. It is not run: tests/unit/test_typing.py asks mypy and pyright what they make of it.

`# is:` is the type that both must see; `# wrong` stands where both must object, and they must object nowhere else.
"""

from typing import reveal_type

import zoo

gen = zoo.load("shadegan", device="cpu")
latents = gen.latents(4, seed=0, psi=0.7)
camera = gen.camera(yaw=0.3, size=128)
out = gen(latents, camera, zoo.Light.of(0.3, 0.7, x=1.0))

reveal_type(gen)  # is: Generator
reveal_type(latents[0])  # is: Latents
reveal_type(camera[-1])  # is: Camera
reveal_type(zoo.Camera.at(camera.pose))  # is: Camera
reveal_type(out)  # is: Render
reveal_type(out[1:].cpu())  # is: Render
reveal_type(out.rgb)  # is: Tensor
reveal_type(out.depth)  # is: Tensor | None
reveal_type(out.pil("depth"))  # is: list[Image]
for one in latents:
    reveal_type(one)  # is: Latents
for part in out:
    reveal_type(part)  # is: Render

reveal_type(zoo.list())  # is: list[str]
reveal_type(zoo.card("shadegan"))  # is: Card
reveal_type(zoo.build("shadegan"))  # is: Generator
reveal_type(zoo.sample(gen, "0-7", relight=True))  # is: Image
reveal_type(zoo.train("shadegan_heads32", ["trainer.max_kimg=1"], seed=1))  # is: Path
reveal_type(zoo.finetune("shadegan", data="folder"))  # is: Path
reveal_type(zoo.compare(["shadegan"], quick=True))  # is: Comparison
reveal_type(zoo.evaluate("shadegan"))  # is: dict[str, Any]
reveal_type(zoo.compare("shadegan"))  # is: Comparison
reveal_type(zoo.evaluate(zoo.train("shadegan_heads32")))  # is: dict[str, Any]
reveal_type(zoo.invert(gen, "photo.jpg"))  # is: Reconstruction
reveal_type(zoo.invert("shadegan", "photo.jpg", steps=50))  # is: Reconstruction
reveal_type(zoo.sample(zoo.save(gen, "folder"), range(8)))  # is: Image
reveal_type(zoo.export(gen.mesh(latents), "face.glb"))  # is: Path
reveal_type(zoo.save(gen, "folder"))  # is: Path

zoo.laod("shadegan")  # wrong
gen(latents)  # wrong
latents["first"]  # wrong
