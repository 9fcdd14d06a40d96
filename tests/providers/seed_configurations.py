# ruff: noqa: W293
"""The configuration of the source systems, to the letter as their guides print it."""

from __future__ import annotations

MODEL_POLICIES = """\
policies:
  # OpenRouter models
  gemini-2.5-pro:
    provider: openrouter
    provider_model_id: google/gemini-2.0-flash-exp
    capabilities:
      streaming: true
      function_calling: true
      long_context: true
      creative_writing: true
    cost_tier: MEDIUM
    context_window: 32000
    input_cost_per_1k: 0.00015
    output_cost_per_1k: 0.0006
    fallback_models: [claude-sonnet, gpt-4o]
    
  claude-sonnet:
    provider: openrouter
    provider_model_id: anthropic/claude-3.5-sonnet-20241022
    capabilities:
      streaming: true
      reasoning: true
      function_calling: true
    cost_tier: HIGH
    context_window: 200000
    input_cost_per_1k: 0.003
    output_cost_per_1k: 0.015
    fallback_models: [gpt-4o, gemini-2.5-pro]
"""

NODE_REQUIREMENTS = """\
nodes:
  writer:
    required_capabilities: [streaming, creative_writing]
    preferred_capabilities: [long_context, function_calling]
    min_context_window: 8000
    max_cost_tier: HIGH
    
  evaluator:
    required_capabilities: [reasoning]
    preferred_capabilities: [function_calling]
    min_context_window: 8000
    max_cost_tier: PREMIUM
    reasoning_required: true
    
  search_perplexity:
    required_capabilities: [web_search]
    preferred_capabilities: [streaming]
    min_context_window: 16000
    max_cost_tier: HIGH
"""

ONE_PROVIDER = """\
# config/llm_providers.yaml
providers:
  - id: ollama_local
    provider_type: ollama
    base_url: http://localhost:11434
    priority: 1
    models:
      - model_id: nomic-embed-text
        task: embedding
        context_window: 8192
        dimension: 768
      
      - model_id: llama3.1:8b
        task: chat_small
        context_window: 8192
      
      - model_id: llama3.1:70b
        task: chat_smart
        context_window: 8192

default_models:
  embedding: nomic-embed-text
  chat_fast: llama3.1:8b
  chat_smart: llama3.1:70b

routing:
  cost_aware: true
  max_cost_per_request: 0.10  # $0.10 per request
  circuit_breaker:
    failure_threshold: 5
    timeout_secs: 60
    success_threshold: 2
"""

TWO_PROVIDERS = """\
providers:
  # Primary: Local Ollama (free)
  - id: ollama_local
    provider_type: ollama
    base_url: http://localhost:11434
    priority: 1
    models:
      - model_id: llama3.1:8b
        task: chat_small
        context_window: 8192
  
  # Fallback: OpenAI (paid)
  - id: openai_cloud
    provider_type: openai
    api_key: ${OPENAI_API_KEY}
    priority: 2
    models:
      - model_id: gpt-4o-mini
        task: chat_small
        context_window: 128000
        supports_vision: true
      
      - model_id: gpt-4o
        task: chat_smart
        context_window: 128000
        supports_vision: true
"""

KAMIWAZA = """\
# Kamiwaza Configuration
KAMIWAZA_ENDPOINT=http://host.docker.internal:7777/api/
KAMIWAZA_VERIFY_SSL=false
KAMIWAZA_DEFAULT_MODEL=llama3
KAMIWAZA_FALLBACK_MODEL=mistral
KAMIWAZA_STREAMING=false
KAMIWAZA_MAX_RETRIES=3
KAMIWAZA_RETRY_DELAY=5
"""

LLAMA_CPP = """\
MODEL_BACKEND=llama_cpp

# Model file paths
MODEL_7B_PATH=models/qwen-7b/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf
MODEL_1B_PATH=models/qwen-1.5b/model.gguf

# Runtime options
MODEL_CONTEXT_SIZE=4096      # Context window size
MODEL_N_THREADS=4            # CPU threads
MODEL_GPU_LAYERS=30          # Layers to offload to GPU (0 = CPU only)

# GPU optimization (NVIDIA)
CUDA_VISIBLE_DEVICES=0       # Which GPU to use
GGML_CUDA_FORCE_CUBLAS=1    # Force CUDA acceleration

# Preloading
MODEL_PRELOAD=true           # Load models at startup
"""

OPENAI = """\
MODEL_BACKEND=openai

# Required: Your OpenAI API key
OPENAI_API_KEY=sk-your-api-key-here

# Model selection
OPENAI_HEAVY_MODEL=gpt-4              # For complex analysis
OPENAI_LIGHT_MODEL=gpt-3.5-turbo      # For simpler tasks

# Optional alternatives:
# OPENAI_HEAVY_MODEL=gpt-4-turbo
# OPENAI_HEAVY_MODEL=gpt-4o
# OPENAI_LIGHT_MODEL=gpt-3.5-turbo-16k
"""

TRANSFORMERS = """\
MODEL_BACKEND=transformers_gpu

# Model selection
GPU_HEAVY_MODEL=microsoft/DialoGPT-medium
GPU_LIGHT_MODEL=microsoft/DialoGPT-small

# Memory management
GPU_MAX_MEMORY=8.0           # Max GPU memory in GB
GPU_TORCH_DTYPE=float16      # float16 or float32

# PyTorch configuration
CUDA_VISIBLE_DEVICES=0       # Which GPU to use
"""

BRIDGE_BEFORE = """\
# .env
OLLAMA_BASE_URL=http://localhost:11434
EMBEDDING_MODEL=nomic-embed-text
CHAT_MODEL=llama3.1:8b
"""
