"""A scripted module for 3D Slicer: segment the loaded volume or radiograph by a model of anatozoo.

Written for the interface of Slicer 5; it was **not tested in Slicer itself**. What asks the service, in
AnatozooSegmentLib, is tested with anatozoo. To add it: Edit > Application Settings > Modules > Additional
module paths, and give this folder.
"""

# What Slicer hands over has no types, and its tests are unittest's.
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, PT009

import tempfile
from pathlib import Path

import ctk
import qt
import slicer
import vtk
from AnatozooSegmentLib.client import ClientError, Command, Service
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class AnatozooSegment(ScriptedLoadableModule):
    """What the module is, for Slicer's list."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Anatozoo Segment"
        parent.categories = ["Segmentation"]
        parent.contributors = ["The anatozoo authors"]
        parent.helpText = (
            "Segments a volume or a radiograph by anatozoo: by a service (anatozoo serve) or the command. "
            "Research software: not a medical device."
        )


class AnatozooSegmentWidget(ScriptedLoadableModuleWidget):
    """The panel: where anatozoo is, a model, a volume, a button."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = AnatozooSegmentLogic()
        box = ctk.ctkCollapsibleButton()
        box.text = "Segment"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)

        self.where = qt.QLineEdit("http://127.0.0.1:8000")
        self.where.toolTip = "Address of a service, or path of the command anatozoo"
        form.addRow("Service or command:", self.where)
        self.token = qt.QLineEdit()
        self.token.echoMode = qt.QLineEdit.Password
        form.addRow("Token of the service:", self.token)
        self.connect_button = qt.QPushButton("Ask for its models")
        form.addRow(self.connect_button)
        self.model = qt.QComboBox()
        form.addRow("Model:", self.model)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("Volume:", self.volume)
        self.run_button = qt.QPushButton("Segment")
        self.run_button.enabled = False
        form.addRow(self.run_button)
        self.layout.addStretch(1)

        self.connect_button.connect("clicked(bool)", self.on_connect)
        self.run_button.connect("clicked(bool)", self.on_run)

    def on_connect(self):
        """Fill the list of models."""
        try:
            self.logic.connect(self.where.text, self.token.text)
        except ClientError as error:
            slicer.util.errorDisplay(str(error))
            return
        self.model.clear()
        self.model.addItems(list(self.logic.organs))
        self.run_button.enabled = self.model.count > 0

    def on_run(self):
        """Segment the chosen volume."""
        node = self.volume.currentNode()
        if node is None:
            slicer.util.errorDisplay("Load a volume first.")
            return
        try:
            with slicer.util.WaitCursor():
                self.logic.segment(self.model.currentText, node)
        except ClientError as error:
            slicer.util.errorDisplay(str(error))


class AnatozooSegmentLogic(ScriptedLoadableModuleLogic):
    """What the panel does, usable from Slicer's Python console."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.client = None
        self.organs = {}

    def connect(self, where, token=""):
        """Take a service or the command, and learn its models.

        Args:
            where: address of a service, or path of the command.
            token: of the service.

        Raises:
            ClientError: it does not answer.
        """
        is_address = where.startswith(("http://", "https://"))
        self.client = Service(where, token) if is_address else Command(where)
        self.organs = {
            model["name"]: model["organs"] for model in self.client.models() if model["takes"] != "mask"
        }

    def segment(self, model, volume):
        """Segment a volume; returns a segmentation node with a segment for each organ.

        Raises:
            ClientError: anatozoo refuses the volume or does not answer.
        """
        if self.client is None:
            raise ClientError("connect to a service or the command first.")
        with tempfile.TemporaryDirectory() as name:
            # A neutral name: no patient's name goes anywhere.
            source, mask = Path(name, "volume.nii.gz"), Path(name, "mask.nii.gz")
            if not slicer.util.saveNode(volume, str(source)):
                raise ClientError("Slicer could not save the volume as NIfTI.")
            self.client.segment(model, source, mask)
            labels = slicer.util.loadLabelVolume(str(mask))
        return self._as_segmentation(labels, volume, self.organs[model])

    def _as_segmentation(self, labels, volume, organs):
        shape = slicer.util.arrayFromVolume(labels).shape
        if shape != slicer.util.arrayFromVolume(volume).shape:
            slicer.mrmlScene.RemoveNode(labels)
            raise ClientError(f"the label map has the shape {shape}, unlike the volume.")
        # The same voxels: of a radiograph the label map does not say where they lie in space.
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        labels.SetIJKToRASMatrix(matrix)
        found = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} anatozoo")
        found.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        logic = slicer.modules.segmentations.logic()
        present = sorted(set(slicer.util.arrayFromVolume(labels).ravel().tolist()) - {0})
        logic.ImportLabelmapToSegmentationNode(labels, found)
        for number, value in enumerate(present):
            found.GetSegmentation().GetNthSegment(number).SetName(organs[int(value) - 1])
        slicer.mrmlScene.RemoveNode(labels)
        found.CreateClosedSurfaceRepresentation()
        return found


class AnatozooSegmentTest(ScriptedLoadableModuleTest):
    """A test for Slicer's self-test: needs a service at the usual address with a model of volumes."""

    def runTest(self):
        """Segment a block."""
        import numpy as np

        slicer.mrmlScene.Clear()
        logic = AnatozooSegmentLogic()
        logic.connect("http://127.0.0.1:8000")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "block")
        values = np.random.default_rng(0).normal(100, 10, (24, 48, 40)).astype(np.float32)
        slicer.util.updateVolumeFromArray(node, values)
        self.assertIsNotNone(logic.segment(next(iter(logic.organs)), node))
