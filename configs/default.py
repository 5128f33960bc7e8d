"""Every key of a vae_jcc experiment, with its meaning, unit and source.

The other files in this folder call `get_config()` here and override a few keys. The configuration is locked when a run
starts: a misspelt key stops it and names the near miss. Override any key from the command line, for example
`--config.loss.lam=0.5`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the complete configuration, with the values of the CIFAR-sized residual model."""
    c = ConfigDict()
    c.name = "default"  # names the run in logs and artifacts
    c.seed = 0  # initial weights, data order, noise and augmentation all follow from it
    c.parallel = "jit"  # "jit": sharded over a one-axis data mesh; "pmap": the same step under jax.pmap
    # Of activations: "float32" or "bfloat16". Parameters, batch statistics, rate and what the networks return (latent,
    # logits, pixels) stay float32.
    c.compute_dtype = "float32"
    # Whose variables start this run: WORKDIR/best, an artifact, a zoo name; "" = fresh; several, separated by commas =
    # their mean, for models that were trained on from one another. Further residual blocks of a stage start as the
    # identity.
    c.init_from = ""
    # Which of its parts: () = all; e.g. ("classifier", "prior") for a new encoder in front of a trained receiver, or
    # ("encoder/stem", "encoder/stages/stage0_block0") for its first layers under new ones. "PLACE=PATH" puts what is at
    # PATH there at PLACE here: ("encoder/stages/stage1_block0=encoder/stages/stage0_block0",) for a new first stage.
    c.init_parts = ()

    c.dataset = ConfigDict()
    c.dataset.name = "cifar10"  # a TFDS name ("cifar10", "imagenette/160px-v2"), "folder:DIR", ... (docs/data.md)
    c.dataset.data_dir = ""  # where TFDS data sets lie; "" = the TFDS_DATA_DIR variable, then TFDS's default
    c.dataset.train_split = "train[:95%]"
    c.dataset.validation_split = "train[95%:]"  # for every choice: checkpoints, lam, quantizer
    c.dataset.test_split = "test"  # for the published figure only
    c.dataset.note = ""  # stated beside every figure, e.g. "JPEG-75 copy"
    c.dataset.image_size = 0  # side in pixels to which training images are brought; 0 = as they come (one common size)
    c.dataset.margin = 0  # extra pixels around image_size that training batches keep, for random crops on the device
    # Random-resized crops (Szegedy et al. 2015) to image_size, cut on the host while it decodes: share of the picture's
    # area, least and greatest, e.g. (0.08, 1.0); () = none. A data set of one size that fits memory_limit is decoded
    # once and cut from memory, any other is decoded for each crop.
    c.dataset.crop_scale = ()
    c.dataset.crop_ratio = (3 / 4, 4 / 3)  # width / height of such a crop, least and greatest
    c.dataset.eval_margin = 0  # the same around evaluation's images, whose centre is cut out
    c.dataset.on_corrupt = "raise"  # "raise": stop and name the file; "skip": leave it out and count it
    c.dataset.workers = 0  # decoding processes for data sets that do not fit into memory_limit; 0 = in this process
    c.dataset.memory_limit = 4 * 2**30  # bytes of decoded images that may stay in memory

    c.augment = ConfigDict()
    c.augment.crop_padding = 4  # pixels of reflected border before a random crop back to size; 0 = off
    c.augment.flip = True  # mirror left-right with probability 1/2
    c.augment.cutout = 0  # side in pixels of one square set to mid-grey; 0 = off
    # Share of the images that get a box of another one, and its label by area (CutMix, Yun et al. 2019); 0 = off. A
    # teacher sees the mixed image. The prior learns from mixed images too; context models, which come later, do not.
    c.augment.cutmix = 0.0

    c.model = ConfigDict()
    c.model.latent_channels = 12  # c of the latent [h, w, c]
    # "blocks": residual blocks are run again in the backward pass, to save memory (not on CPUs); "" = kept
    c.model.remat = ""
    c.model.encoder = ConfigDict()
    c.model.encoder.kind = "residual"  # "residual" or "patchify" (models/encoder.py)
    c.model.encoder.stem_features = 32  # channels after the first convolution
    c.model.encoder.stem_kernel = 4  # side of its kernel in pixels; patchify: kernel = stride
    c.model.encoder.stem_stride = 2  # its stride in pixels
    c.model.encoder.stem_pool = False  # max-pool 3x3, stride 2, after it (the paper's large-image encoders)
    c.model.encoder.stages = ((32, 2, 1), (48, 1, 2))  # (channels, residual blocks, stride of the first block) each
    # Side of the depthwise kernels of separable blocks (models/layers.py); 0 = dense 3x3 blocks
    c.model.encoder.separable_kernel = 0
    c.model.encoder.expansion = 2  # separable blocks: channels between their 1x1 convolutions, over the stage's
    c.model.encoder.conv_bias = False  # biases in the blocks' convolutions
    c.model.encoder.as_published = False  # biases, shortcuts and last norm of the 2022 paper's code (models/encoder.py)
    c.model.encoder.latent_kernel = 1  # side of the last convolution's kernel; 0 = none: the last stage is the latent
    c.model.classifier = ConfigDict()
    c.model.classifier.stages = ((96, 2, 1), (192, 2, 2))  # as the encoder's, on the latent grid
    c.model.classifier.stem_kernel = 3
    c.model.classifier.as_published = False  # as the encoder's
    c.model.decoder = ConfigDict()
    c.model.decoder.mode = "off"  # "off"; "joint": trained with the rest; "frozen": afterwards, encoder untouched
    c.model.decoder.features = 64
    c.model.decoder.blocks = 3  # residual blocks on the latent grid
    c.model.decoder.epochs = 4.0  # length of the "frozen" training
    c.model.decoder.learning_rate = 1e-3  # of Adam, in the "frozen" training

    c.quantizer = ConfigDict()
    c.quantizer.kind = (
        "mixed"  # "noise", "mixed" (straight-through), "noise_then_hard", "soft_to_hard", "hard" (models/joint.py)
    )
    c.quantizer.centres = 0  # soft_to_hard: L learned centres, at least 2 (the 2022 paper); 0 = not used
    c.quantizer.hard_fraction = 0.3  # noise_then_hard: last part of training, on hard symbols with a frozen encoder

    c.entropy = ConfigDict()
    # The rate in training. "factorized", or "parallel": that of the symbols given others, by a context model of the
    # groups and features below; what codes is trained afterwards all the same (set entropy.context.kind). Of
    # soft_to_hard: "categorical" (a channel's frequencies) or "context" (the paper's).
    c.entropy.kind = "factorized"
    c.entropy.filters = (3, 3, 3)  # hidden widths of the factorized prior's monotonic networks (Balle 2018, app. 6.1)
    c.entropy.init_scale = 4.0  # half-width of the latent range that it first expects
    c.entropy.context = ConfigDict()  # trained afterwards on the finished model's symbols: fewer bits, same accuracy
    # "": the prior's tables code; "serial" (the 2022 paper's), "parallel" (checkerboard), "hyperprior" (mean and scale)
    c.entropy.context.kind = ""
    c.entropy.context.features = 48  # of its hidden layers
    c.entropy.context.blocks = 1  # serial: residual blocks
    c.entropy.context.groups = 4  # parallel: groups of channels, 1..4; it decodes in twice as many passes
    c.entropy.context.epochs = 3.0
    c.entropy.context.fixed_fraction = 0.4  # last part of its training, in the integer arithmetic that codes
    c.entropy.context.learning_rate = 2e-3  # of Adam

    c.loss = ConfigDict()
    c.loss.lam = 0.5  # weight of the rate: nats of cross-entropy per bpp
    c.loss.lam_warmup_epochs = 2.0  # lam grows linearly from 0 over these epochs
    c.loss.hinge_beta = 0.0  # > 0: the paper's beta * max(bpp - target, 0) of the batch's mean, in place of lam * bpp
    # Bpp below which the hinge asks for nothing: of training images as augmented. Those that CutMix mixed may cost more
    # than whole ones or, near 0.2 bpp, a tenth less; the validation says what whole ones cost.
    c.loss.hinge_target = 0.0
    c.loss.label_smoothing = 0.1
    c.loss.mse_weight = 0.0  # joint decoder: weight of the mean squared error on [0, 1] pixels
    c.loss.teacher = ""  # artifact folders or zoo names of teachers, separated by commas; "" = no distillation
    # Random views of each training image that the teacher is asked about once, before training: its mean answer is the
    # image's label, and a step costs no more than without a teacher. 0 = it sees each augmented image, in the step.
    c.loss.teacher_views = 0
    c.loss.distill_weight = 0.0  # share of the cross-entropy taken from the teacher's soft labels, 0..1
    c.loss.distill_temperature = 2.0

    c.optim = ConfigDict()
    c.optim.kind = "sgd"  # "sgd" (momentum), "adamw", or "muon" for kernels with sgd for all else
    c.optim.learning_rate = 0.2  # peak; muon: of kernels, near 0.04
    c.optim.vector_learning_rate = 0.2  # muon: peak for biases, scales and kernels of one input channel
    c.optim.momentum = 0.9  # sgd, muon
    c.optim.nesterov = True  # sgd, muon: Nesterov momentum
    c.optim.b2 = 0.999  # adamw
    # Of convolution and dense kernels only; sgd: L2 in the gradient; adamw, muon: decoupled (muon: near 0.02).
    c.optim.weight_decay = 5e-4
    c.optim.decay_all = False  # sgd: weight decay of all variables that it trains (the 2022 paper)
    c.optim.prior_learning_rate = 5e-3  # of Adam on the entropy model, whose gradients have their own scale
    c.optim.rate_optimizer = ""  # "adam": a separate one for the rate, over all variables (the 2022 paper); "" = joint
    c.optim.rate_fraction = 5e-4  # its learning rate, as a fraction of learning_rate
    c.optim.schedule = "cosine"  # after the warm-up: "cosine", or "steps" (a tenth each at 50 % and 75 %)
    c.optim.warmup_epochs = 2.0
    c.optim.final_fraction = 0.0  # cosine: learning rate at the end, as a fraction of the peak
    c.optim.clip_norm = 5.0  # global norm to which gradients are clipped; 0 = off
    c.optim.ema_decay = 0.998  # of the averaged parameters that evaluation and artifacts use; 0 = no averaging

    c.train = ConfigDict()
    c.train.batch_size = 128  # images a step, over all devices and hosts
    # Microbatches that a step's batch is cut into where it does not fit into memory; 1 = the whole at once. Gradients
    # and running statistics are means over them; batch normalization sees one microbatch (of all devices) at a time.
    c.train.accumulate = 1
    c.train.epochs = 30.0
    c.train.max_steps = 0  # stop after so many steps whatever the epochs; 0 = no limit

    c.eval = ConfigDict()
    c.eval.batch_size = 512  # images at a time, over all devices; the last, partial batch counts too
    c.eval.every_epochs = 1.0  # validation with real rounding
    c.eval.jpeg_baseline = False  # train the same classifier on JPEG-decoded images at the nearest rate, for the table

    c.checkpoint = ConfigDict()
    c.checkpoint.every_epochs = 1.0
    c.checkpoint.keep = 2
    c.checkpoint.keep_best = True  # by validation loss (cross-entropy + lam * bpp under real rounding)

    c.log = ConfigDict()
    c.log.every_steps = 50
    c.artifact_dtype = "float32"  # of the receiver's and decoder's weights in the artifact: "float32" or "float16"
    # Of activations in what is shipped: cameras compute in float32, whatever the training did. The networks that are
    # trained on the finished encoder (context model, decoder) see its symbols as this makes them.
    c.artifact_compute_dtype = "float32"
    return c
