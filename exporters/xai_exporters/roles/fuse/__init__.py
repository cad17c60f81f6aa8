"""Methods as graphs: one self-contained ONNX file, image -> the network's outputs and a saliency map."""
