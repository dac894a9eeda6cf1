"""MetaWorld's arm: 50 manipulation tasks with cameras, sensors and scripted experts; the simulator ``metaworld``.

Import the modules that are needed: `config` works without MuJoCo.
"""
